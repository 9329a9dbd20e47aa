"""The YAML config file: read, checked whole, and turned into Settings."""

import difflib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jobengine.config.settings import MINUTES_MAX, WAITERS_MAX, QueueSettings, Settings
from jobengine.domain.errors import ConfigRefused
from jobengine.domain.queue import ANYONE, NAME_RULE, is_name

_VERSIONS = ("1", "1.0")
_QUEUE_KEYS = {"read", "write", "job_keep_minutes", "job_timeout_minutes"}
# From how many minutes to how many.
_KEEP, _TIMEOUT = (0, MINUTES_MAX), (1, MINUTES_MAX)


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
        raise ConfigRefused(source, [f"expected keys and values, got {_kind(document)}"])
    reader = _Reader(document)
    settings = reader.settings()
    if reader.mistakes:
        raise ConfigRefused(source, reader.mistakes)
    return settings


class _Loader(yaml.SafeLoader):
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


class _Reader:
    """Takes a document apart and gathers its mistakes by key."""

    def __init__(self, document: Mapping[Any, Any]) -> None:
        self._document = document
        self.mistakes: list[str] = []

    def settings(self) -> Settings:
        default = Settings()
        known: dict[str, Callable[[str, Any], Any]] = {
            "version": self._version,
            "host": self._host,
            "port": self._integer(0, 65535, default.port),
            "job_keep_minutes": self._integer(*_KEEP, default.job_keep_minutes),
            "job_timeout_minutes": self._integer(*_TIMEOUT, default.job_timeout_minutes),
            "max_body_bytes": self._integer(1024, 64 * 1024 * 1024, default.max_body_bytes),
            "threads": self._integer(4, 512, default.threads),
            "waiters": self._integer(1, WAITERS_MAX, default.waiters),
            "request_seconds": self._integer(1, 3600, default.request_seconds),
            "protect_nonempty": self._boolean,
            "queues": self._queues,
        }
        if "version" not in self._document:
            self.mistakes.append("version: missing, expected 1")
        self._refuse_unknown("", self._document, known)
        values = {
            key: read(key, self._document[key])
            for key, read in known.items()
            if key in self._document
        }
        values.pop("version", None)
        return Settings(**values)

    def _mistake(self, key: str, expected: str, value: object) -> None:
        self.mistakes.append(f"{key}: expected {expected}, got {_kind(value)}")

    def _refuse_unknown(
        self, place: str, mapping: Mapping[Any, Any], known: Mapping[str, Any] | set[str]
    ) -> None:
        for key in mapping:
            if key in known:
                continue
            near = difflib.get_close_matches(str(key), known, 1)
            hint = (
                f", did you mean {near[0]}?" if near else f", expected {', '.join(sorted(known))}"
            )
            self.mistakes.append(f"{place}{key}: unknown key{hint}")

    def _version(self, key: str, value: object) -> None:
        if isinstance(value, bool) or str(value) not in _VERSIONS:
            self._mistake(key, "1 or 1.0", value)

    def _host(self, key: str, value: object) -> str:
        if isinstance(value, str) and value and " " not in value:
            return value
        self._mistake(key, "an address or a host name to listen on", value)
        return ""

    def _integer(self, low: int, high: int, default: int) -> Callable[[str, Any], int]:
        def read(key: str, value: object) -> int:
            if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
                return value
            self._mistake(key, f"an integer from {low} to {high}", value)
            return default

        return read

    def _boolean(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            self._mistake(key, "true or false", value)
        return value is True

    def _queues(self, key: str, value: object) -> dict[str, QueueSettings] | None:
        if value is None:
            return None  # `queues:` with nothing under it counts as no key at all
        if not isinstance(value, dict):
            self._mistake(key, "queue names, each with `read` and `write`", value)
            return None
        queues: dict[str, QueueSettings] = {}
        for name, body in value.items():
            place = f"{key}.{name}"
            if not isinstance(name, str) or not is_name(name):
                quoted = "" if isinstance(name, str) else " (put it in quotes)"
                self.mistakes.append(f"{place}: expected a queue name{quoted}: {NAME_RULE}")
            elif not isinstance(body, dict):
                self._mistake(place, "`read` and `write` lists", body)
            else:
                queues[name] = self._queue(f"{place}.", body)
        return queues

    def _queue(self, place: str, body: Mapping[Any, Any]) -> QueueSettings:
        self._refuse_unknown(place, body, _QUEUE_KEYS)
        minutes = {
            key: self._integer(*bounds, 0)(place + key, body[key])
            for key, bounds in (("job_keep_minutes", _KEEP), ("job_timeout_minutes", _TIMEOUT))
            if key in body
        }
        return QueueSettings(
            readers=self._services(f"{place}read", body.get("read", [])),
            writers=self._services(f"{place}write", body.get("write", [])),
            **minutes,
        )

    def _services(self, key: str, value: object) -> frozenset[str]:
        if not isinstance(value, list):
            self._mistake(key, f"a list of service names (or {ANYONE!r} for any)", value)
            return frozenset()
        for index, name in enumerate(value):
            if not isinstance(name, str):
                self._mistake(f"{key}[{index}]", "a service name (put it in quotes)", name)
            elif not is_name(name):
                self.mistakes.append(f"{key}[{index}]: expected a service name: {NAME_RULE}")
        return frozenset(name for name in value if isinstance(name, str))


def _kind(value: object) -> str:
    """What a value is, in YAML's words; scalars with the value itself."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return repr(value)


def _yaml_mistake(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"it is not YAML: {str(error).splitlines()[0]}"
