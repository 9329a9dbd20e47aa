"""The environment variables, with the command line's options over them."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from jobengine.config.settings import URL_FORM, DatabaseUrl, Launch, Secret
from jobengine.domain.errors import ConfigRefused, SecretMissing

CONFIG_PATH = Path("/jobengine/config.yml")
DATABASE_PATH = Path("/jobengine/database.queuedb")
LOG_LEVELS = ("debug", "info", "warning", "error")
_URL_SCHEMES = ("postgresql+psycopg://", "postgresql://", "postgres://")
_LINE_BREAK = "expected a path, got one with a line break in it"
_GIN_MODES = {"": "info", "release": "warning", "debug": "debug"}

_HOW_TO_SET = """\
SECRET is not set. It is the key that encrypts the database: choose a long random
text, keep it safe (without it the jobs cannot be read again), and set it, e.g.:

  export SECRET="$(head -c 32 /dev/urandom | base64)"

or write it to a file and set SECRET_FILE to the path of that file."""
# Nothing but the end of a line: no key.
_EMPTY = (b"", b"\n", b"\r", b"\r\n")


def read_environment(
    env: Mapping[str, str],
    *,
    config: Path | None = None,
    database: Path | None = None,
    url: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Launch:
    """Where the config and the database are, and the SECRET.

    A variable set to nothing counts as not set. Raises SecretMissing, and
    ConfigRefused with every other mistake.
    """
    mistakes: list[str] = []
    log_level, traced = _log_level(env, mistakes), _traced(env, mistakes)
    mistakes += [
        f"{name} and {name}_FILE: expected one of the two, both are set"
        for name in ("SECRET", "NEW_SECRET")
        if env.get(name) and env.get(f"{name}_FILE")
    ]
    if database and url:
        mistakes.append("--db and --database-url: expected one of the two, both are given")
    where = database_place({"DATABASE_URL": url} if url else env, mistakes)
    if mistakes:
        raise ConfigRefused("the environment", mistakes)
    return Launch(
        config_path=config or config_path(env),
        database=database.resolve() if database else where,
        secret=read_secret(env),
        log_level=log_level,
        host=host,
        port=port,
        traced=traced,
    )


def config_path(env: Mapping[str, str]) -> Path:
    """CONFIG_PATH, or its default. Raises ConfigRefused."""
    if _is_broken(env.get("CONFIG_PATH")):
        raise ConfigRefused("the environment", [f"CONFIG_PATH: {_LINE_BREAK}"])
    return Path(env.get("CONFIG_PATH") or CONFIG_PATH)


def _is_broken(path: str | None) -> bool:
    """Whether a path has a line break, and so names another file than is meant."""
    return path is not None and not {"\n", "\r"}.isdisjoint(path)


def database_place(env: Mapping[str, str], mistakes: list[str]) -> Path | DatabaseUrl:
    """DATABASE_URL, or else DB_PATH or its default; adds to the mistakes.

    Links in a path are resolved: the lock must be one for all its names.
    """
    url = (env.get("DATABASE_URL") or "").strip()  # a file that it came from ends in a newline
    if not url:
        if _is_broken(env.get("DB_PATH")):
            mistakes.append(f"DB_PATH: {_LINE_BREAK}")
        return Path(env.get("DB_PATH") or DATABASE_PATH).resolve()
    if not url.startswith(_URL_SCHEMES):
        mistakes.append(f"DATABASE_URL: expected {URL_FORM}")  # what was got may be secret
    return DatabaseUrl(url)


def read_secret(env: Mapping[str, str], name: str = "SECRET") -> Secret:
    """SECRET, or what the file SECRET_FILE holds.

    Any text will do; whoever derives a key ignores the end of its last line. `name` is another
    variable to take, with its `_FILE`. Raises SecretMissing.
    """
    value = os.fsencode(env.get(name) or "")
    if value in _EMPTY:  # `echo "" | base64` makes such secrets
        value = b""
    path = env.get(f"{name}_FILE")
    if not value and path:
        try:
            value = Path(path).read_bytes()
        except OSError as error:
            raise SecretMissing(f"{name}_FILE {path} cannot be read: {error.strerror}") from error
        if value in _EMPTY:
            raise SecretMissing(f"{name}_FILE {path} is empty: expected the secret in it")
    if not value:
        raise SecretMissing(_HOW_TO_SET.replace("SECRET", name))
    return Secret(value)


def _traced(env: Mapping[str, str], mistakes: list[str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces, in a way that is spoken here."""
    exporter = (env.get("OTEL_TRACES_EXPORTER") or "").strip()
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((name for name in names if env.get(name)), None)
    off = (env.get("OTEL_SDK_DISABLED") or "").strip().lower() == "true"
    if off or exporter == "none" or not (exporter or endpoint):
        return False
    if exporter not in ("", "otlp"):
        mistakes.append(f"OTEL_TRACES_EXPORTER: expected otlp or none, got {exporter!r}")
    if endpoint is not None and not _is_http(env[endpoint]):
        mistakes.append(f"{endpoint}: expected http://HOST:PORT or https://HOST:PORT")
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if env.get(name)), None)
    if name is not None and env[name].strip() != "http/protobuf":
        mistakes.append(f"{name}: expected http/protobuf, got {env[name]!r}")
    return True


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no IPv6 address
        return False


def _log_level(env: Mapping[str, str], mistakes: list[str]) -> str:
    mode = (env.get("GIN_MODE") or "").strip()
    level = (env.get("LOG_LEVEL") or "").strip().lower()
    if mode not in _GIN_MODES:
        mistakes.append(f"GIN_MODE: expected release or debug, got {mode!r}")
    if level and level not in LOG_LEVELS:
        mistakes.append(f"LOG_LEVEL: expected one of {', '.join(LOG_LEVELS)}, got {level!r}")
    return level or _GIN_MODES.get(mode, "info")
