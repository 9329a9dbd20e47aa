"""The YAML config file: read, checked whole, and turned into Settings."""

from collections.abc import Sequence
from pathlib import Path

from jobengine.config.reader import Reader, kind_of
from jobengine.config.settings import Settings
from jobengine.config.strict_yaml import lines, load, odd_spaces
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
    document, mistakes = load(text, source)
    if document is None:
        raise ConfigRefused(source, ["it is empty: expected at least `version: 1`"])
    if not isinstance(document, dict):
        mistake = f"expected keys and values, got {kind_of(document)}"
        raise ConfigRefused(source, [mistake, *odd_spaces(text)])
    reader = Reader(document)
    settings = reader.settings()
    if reader.mistakes or mistakes:
        raise ConfigRefused(source, [*mistakes, *_with_lines(reader.mistakes, text)])
    return settings


def _with_lines(mistakes: Sequence[str], text: str) -> list[str]:
    """What may be behind the mistakes, and they with the lines of the keys that they begin with."""
    where = lines(text)
    told = []
    for mistake in mistakes:
        line = where.get(mistake.partition(": ")[0])
        told.append(mistake if line is None else f"{mistake} (line {line})")
    return (odd_spaces(text) if mistakes else []) + told
