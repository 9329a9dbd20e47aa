"""The audit trail: who administered what."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Actor(msgspec.Struct, frozen=True):
    """Who does something, and the address that it came from; nothing where it was none."""

    name: str
    address: str = ""


def by_dashboard(user: str, address: str) -> Actor:
    """A user of the dashboard, told from a service of the same name."""
    return Actor(f"{user} by dashboard", address)


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
    detail: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
    digest: str
