"""The settings of one server, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

# Each holds a connection, of which a server takes a thousand: some are left for the others.
WAITERS_MAX = 900


class Authentication(Enum):
    """How services show who they are."""

    NONE = "none"  # X-Name is believed
    KEYS = "keys"  # each call shows a key


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds."""

    calls: int
    seconds: int


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """A queue as the config has it: which services may read and write it.

    Minutes of None are those of the whole config. `max_jobs` is how many jobs may be
    queued or in progress; None for as many as come.
    """

    readers: frozenset[str]
    writers: frozenset[str]
    job_keep_minutes: int | None = None
    job_timeout_minutes: int | None = None
    max_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config file says; the defaults are those of a generated file.

    `queues` is None where the file has no such key, which is not the same as a
    file that says there are none. docs/configuration.md explains each setting.
    """

    host: str = "127.0.0.1"
    port: int = 6010
    base_path: str = ""
    job_keep_minutes: int = 60
    job_timeout_minutes: int = 10
    max_body_bytes: int = 1024 * 1024
    threads: int = 32
    waiters: int = 500
    request_seconds: int = 60
    protect_nonempty: bool = False
    authentication: Authentication = Authentication.NONE
    # The names that the server may be called by, with those of loopback.
    hosts: frozenset[str] = frozenset()
    admins: frozenset[str] = frozenset()
    # Beside the admins.
    metrics: frozenset[str] = frozenset()
    rate_limit: Rate | None = None
    # The rates of single services, over that of all; None for no limit.
    services: Mapping[str, Rate | None] = field(default_factory=dict)
    queues: Mapping[str, QueueSettings] | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """The SECRET, as bytes; never shown."""

    value: bytes = field(repr=False)


# What a DATABASE_URL looks like.
URL_FORM = "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a PostgreSQL database is; never shown, since it may hold a password."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Launch:
    """Where things are and who may open them, from the environment and the command line.

    `database` is the path of an encrypted file, or the URL of a PostgreSQL database.
    """

    config_path: Path
    database: Path | DatabaseUrl
    secret: Secret
    log_level: str
    host: str | None = None
    port: int | None = None
    traced: bool = False  # whether spans are exported
