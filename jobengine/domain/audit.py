"""The audit trail: who administered what."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Actor(msgspec.Struct, frozen=True):
    """Who does something, and the address that it came from; nothing where it was none."""

    name: str
    address: str = ""


class Act(msgspec.Struct, frozen=True):
    """Something done to a subject, e.g. `queue.paused` to a queue of a name."""

    actor: Actor
    action: str
    subject: str
    detail: Mapping[str, Any] = {}


class Entry(msgspec.Struct, frozen=True):
    """An act as the trail has it. `id` counts from 1, `time` is seconds since the Unix epoch.

    `digest` is the SHA-256, in hexadecimal digits, over the entry and the digest before it.
    """

    id: int
    time: int
    actor: str
    address: str
    action: str
    subject: str
    detail: msgspec.Raw
    digest: str
