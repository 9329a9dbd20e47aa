"""The config's keys and values, each checked, turned into Settings."""

import difflib
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Any

from jobengine.config.settings import (
    WAITERS_MAX,
    Authentication,
    QueueSettings,
    Rate,
    Settings,
)
from jobengine.domain.queue import ANYONE, MAX_JOBS_MAX, MINUTES_MAX, NAME_RULE, is_name

_VERSIONS = ("1", "1.0")
_QUEUE_KEYS = {"read", "write", "job_keep_minutes", "job_timeout_minutes", "max_jobs"}
# From how many minutes to how many.
_KEEP, _TIMEOUT = (0, MINUTES_MAX), (1, MINUTES_MAX)
# Of a queue.
_NUMBERS = {
    "job_keep_minutes": _KEEP,
    "job_timeout_minutes": _TIMEOUT,
    "max_jobs": (1, MAX_JOBS_MAX),
}
_RATE = re.compile("([0-9]{1,9})/([smh])")
# A name or an IPv4 address.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
# What needs no escape in an address, and has one meaning in it.
_BASE_PATH = re.compile(r"(?:/(?!\.)[A-Za-z0-9._~-]+){1,8}")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Reader:
    """Takes a document apart and gathers its mistakes by key."""

    def __init__(self, document: Mapping[Any, Any]) -> None:
        self._document = document
        self.mistakes: list[str] = []

    def settings(self) -> Settings:
        """The settings, as far as there are no mistakes."""
        default = Settings()
        known: dict[str, Callable[[str, Any], Any]] = {
            "version": self._version,
            "host": self._host,
            "port": self._integer(0, 65535, default.port),
            "base_path": self._base_path,
            "job_keep_minutes": self._integer(*_KEEP, default.job_keep_minutes),
            "job_timeout_minutes": self._integer(*_TIMEOUT, default.job_timeout_minutes),
            "max_body_bytes": self._integer(1024, 64 * 1024 * 1024, default.max_body_bytes),
            "threads": self._integer(4, 512, default.threads),
            "waiters": self._integer(1, WAITERS_MAX, default.waiters),
            "request_seconds": self._integer(1, 3600, default.request_seconds),
            "protect_nonempty": self._boolean,
            "authentication": self._authentication,
            "hosts": self._hosts,
            "admins": self._admins,
            "metrics": self._services,
            "rate_limit": self._rate,
            "services": self._service_rates,
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
        self.mistakes.append(f"{key}: expected {expected}, got {kind_of(value)}")

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

    def _base_path(self, key: str, value: object) -> str:
        if isinstance(value, str) and _BASE_PATH.fullmatch(value):
            return value
        self._mistake(key, "a path such as /jobs, without a slash at its end", value)
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

    def _authentication(self, key: str, value: object) -> Authentication:
        try:
            return Authentication(value)
        except ValueError:
            self._mistake(key, " or ".join(kind.value for kind in Authentication), value)
            return Authentication.NONE

    def _hosts(self, key: str, value: object) -> frozenset[str]:
        if not isinstance(value, list):
            self._mistake(key, "a list of host names", value)
            return frozenset()
        for index, name in enumerate(value):
            if not isinstance(name, str) or not _is_host(name):
                self._mistake(f"{key}[{index}]", "a host name or an address, without a port", name)
        return frozenset(str(name).lower().strip("[]") for name in value)

    def _admins(self, key: str, value: object) -> frozenset[str]:
        names = self._services(key, value)
        if ANYONE in names:
            self.mistakes.append(f"{key}: expected the names of services, got {ANYONE!r}")
        return names

    def _rate(self, key: str, value: object) -> Rate | None:
        if value == "none":
            return None
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None or not int(found[1]):
            self._mistake(key, "a number of calls in a time, as 100/s, 6000/m or 9000/h", value)
            return None
        return Rate(int(found[1]), _SECONDS[found[2]])

    def _service_rates(self, key: str, value: object) -> dict[str, Rate | None]:
        if not isinstance(value, dict):
            self._mistake(key, "names of services, each with `rate_limit`", value)
            return {}
        rates: dict[str, Rate | None] = {}
        for name, body in value.items():
            place = f"{key}.{name}"
            if not isinstance(name, str) or not is_name(name) or name == ANYONE:
                self.mistakes.append(f"{place}: expected a service name: {NAME_RULE}")
            elif not isinstance(body, dict):
                self._mistake(place, "`rate_limit`", body)
            else:
                self._refuse_unknown(f"{place}.", body, {"rate_limit"})
                if "rate_limit" in body:
                    rates[name] = self._rate(f"{place}.rate_limit", body["rate_limit"])
        return rates

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
        numbers = {
            key: self._integer(*bounds, 0)(place + key, body[key])
            for key, bounds in _NUMBERS.items()
            if key in body
        }
        return QueueSettings(
            readers=self._services(f"{place}read", body.get("read", [])),
            writers=self._services(f"{place}write", body.get("write", [])),
            **numbers,
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


def _is_host(name: str) -> bool:
    try:
        return _HOST.fullmatch(name) is not None or bool(IPv6Address(name.strip("[]")))
    except ValueError:
        return False


def kind_of(value: object) -> str:
    """What a value is, in YAML's words; scalars with the value itself."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return repr(value)
