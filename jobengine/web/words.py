"""Numbers, ages and sizes as people read them."""

from collections.abc import Sequence

import msgspec
import yaml

from jobengine.domain.queue import ANYONE

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def number(value: int) -> str:
    """A count with its thousands apart: 1,234,567."""
    return f"{value:,}"


def age(seconds: float | None) -> str:
    """A span of time in its two largest units: 3 d 4 h; a dash for none."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "0 s" if seconds <= 0 else f"{seconds * 1000:.0f} ms"
    left = round(seconds)
    parts: list[str] = []
    for unit, name in _UNITS:
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def ago(seconds: int, now: int) -> str:
    """When something was or will be, seen from now, in its largest unit: 5 min ago, in 2 h."""
    span = abs(now - seconds)
    size, name = next((unit for unit in _UNITS if span >= unit[0]), (1, "s"))
    text = f"{span // size} {name}"
    if not span:
        return "just now"
    return f"{text} ago" if seconds < now else f"in {text}"


def size(value: int) -> str:
    """Bytes: 3.4 MiB."""
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def rate(a_minute: float) -> str:
    """A rate: 0, 0.3, 12."""
    return "0" if not a_minute else f"{a_minute:.1f}" if a_minute < 10 else f"{a_minute:,.0f}"


_VERBS = {
    "retried": "Retry",
    "completed": "Complete",
    "failed": "Fail",
    "deleted": "Delete",
    "prioritised": "Give another priority to",
}


def verb(action: str) -> str:
    """What an action of the audit trail is called on a button."""
    return _VERBS[action]


def services(names: Sequence[str]) -> str:
    """Who has a right."""
    return "anyone" if ANYONE in names else ", ".join(names) or "nobody"


def setting(value: object) -> str:
    """A setting as YAML has it, on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    )


def text(raw: msgspec.Raw) -> str:
    """JSON as text; nothing for an empty object."""
    shown = bytes(raw).decode()
    return "" if shown == "{}" else shown
