"""The system as its keepers see it: what runs, on what, by which config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from jobengine import __version__
from jobengine.config.settings import Settings
from jobengine.domain.clock import Clock
from jobengine.domain.key import Key
from jobengine.engine.config_watch import Looked
from jobengine.engine.keys import Keys
from jobengine.store.database import Database


class Report(msgspec.Struct, frozen=True):
    """What runs. Times in seconds since the Unix epoch, spans in seconds, sizes in bytes."""

    version: str
    started: int
    uptime: float
    kind: str
    database: str
    sizes: Mapping[str, int]
    threads: int
    waiters: int
    waiting: int
    leads: bool
    config: str
    looked: Looked | None
    settings: Mapping[str, Any]


class Parts(NamedTuple):
    """What is reported on."""

    database: Database
    clock: Clock
    keys: Keys
    waiting: Callable[[], int]


class System:
    """Reports on the running server. No secret is in what it gives: settings hold none."""

    def __init__(
        self,
        parts: Parts,
        settings: Callable[[], Settings],
        config: str,
        looked: Callable[[], Looked | None],
    ) -> None:
        """`settings` gives those in force, `looked` what came of the last look at `config`."""
        self._database, self._clock, self._keys, self._waiting = parts
        self._settings = settings
        self._config = config
        self._looked = looked
        self._started = parts.clock.now()
        self._began = parts.clock.elapsed()

    def report(self) -> Report:
        """The system as it is now. Raises StoreFailed."""
        settings = self._settings()
        return Report(
            version=__version__,
            started=self._started,
            uptime=self._clock.elapsed() - self._began,
            kind=self._database.kind,
            database=self._database.place,
            sizes=self._database.sizes(),
            threads=settings.threads,
            waiters=settings.waiters,
            waiting=self._waiting(),
            leads=self._database.leads(),
            config=self._config,
            looked=self._looked(),
            settings={key: _plain(value) for key, value in asdict(settings).items()},
        )

    def keys(self) -> Sequence[Key]:
        """Every key there ever was, the newest first."""
        return self._keys.all()[::-1]


def _plain(value: object) -> object:
    """A setting as it is shown: sets in order, names of choices."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value
