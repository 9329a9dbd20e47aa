"""The YAML config file: read, checked whole, and turned into Settings."""

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jobengine.config.reader import Reader, kind_of
from jobengine.config.settings import Settings
from jobengine.domain.errors import ConfigRefused


def read_settings(path: Path) -> Settings:
    """The settings in the file.

    Raises ConfigRefused with every mistake in it, and FileNotFoundError where
    there is no file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = [f"cannot be read: {error.strerror}"]
        raise ConfigRefused(f"the config {path}", reason) from error
    return settings_in(data, f"the config {path}")


def settings_in(data: bytes, source: str) -> Settings:
    """The settings in what a file held. Raises ConfigRefused with every mistake in it."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigRefused(source, ["cannot be read: it is not UTF-8 text"]) from error
    return parse_settings(text, source)


def parse_settings(text: str, source: str) -> Settings:
    """The settings in the YAML text; `source` names it in errors.

    Raises ConfigRefused with every mistake in it.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigRefused(source, [_yaml_mistake(error)]) from error
    if document is None:
        raise ConfigRefused(source, ["it is empty: expected at least `version: 1`"])
    if not isinstance(document, dict):
        raise ConfigRefused(source, [f"expected keys and values, got {kind_of(document)}"])
    reader = Reader(document)
    settings = reader.settings()
    if reader.mistakes:
        raise ConfigRefused(source, reader.mistakes)
    return settings


# libyaml's where PyYAML has it, as its wheels do: much faster.
if TYPE_CHECKING:
    _Safe = yaml.SafeLoader
else:
    _Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    """A SafeLoader that refuses a key given twice, of which YAML would drop one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused by its place, in a moment
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _yaml_mistake(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"it is not YAML: {str(error).splitlines()[0]}"
