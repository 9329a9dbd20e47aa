"""The audit trail's table: a chain of SHA-256 digests, each over the one before.

An entry that was altered or removed breaks the chain. Its end is in another table, sealed
as contents are: where the database is not encrypted itself, who can write to it and lacks the
SECRET cannot make a chain of its own.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from jobengine.domain.audit import Act, Actor, Entry
from jobengine.domain.errors import StoreFailed
from jobengine.store.contents import Contents
from jobengine.store.tables.models import audit_entry, audit_head

_HEAD = 1
# Under a uid that no job has, the head is sealed as contents are.
_HEAD_UID = b"audit head".ljust(16, b"\0")
_BEGINNING = bytes(32)
_BROKEN = Act(Actor("jobengine"), "audit.broken", "the end of the trail had been altered")
_CHUNK = 500
_COLUMNS = (
    audit_entry.c.id,
    audit_entry.c.time,
    audit_entry.c.actor,
    audit_entry.c.address,
    audit_entry.c.action,
    audit_entry.c.subject,
    audit_entry.c.detail,
    audit_entry.c.digest,
)


def record(connection: Connection, contents: Contents, acts: Sequence[Act], now: int) -> None:
    """Adds the acts to the trail, in the transaction that does them."""
    if not acts:
        return
    entries, digest, whole = _end(connection, contents)
    if not whole:
        acts = [_BROKEN, *acts]  # it shows for ever, and keeps nobody from starting a server
    rows = []
    for id_, act in enumerate(acts, entries + 1):
        detail = msgspec.json.encode(act.detail).decode()
        actor = act.actor
        values = (id_, now, actor.name, actor.address, act.action, act.subject, detail)
        digest = _digest(digest, values)
        names = [column.name for column in _COLUMNS]
        rows.append(dict(zip(names, (*values, digest), strict=True)))
    connection.execute(insert(audit_entry), rows)
    head = {"entries": entries + len(acts), "digest": contents.seal(_HEAD_UID, digest)}
    connection.execute(update(audit_head).values(head))


def begin(connection: Connection, contents: Contents) -> None:
    """Makes the end of a trail without entries, with the first key of the contents."""
    sealed = contents.seal(_HEAD_UID, _BEGINNING)
    connection.execute(insert(audit_head).values(id=_HEAD, entries=0, digest=sealed))


def _end(connection: Connection, contents: Contents) -> tuple[int, bytes, bool]:
    """The id and the digest that the next entry follows, locked; whether both tables agree."""
    head = connection.execute(select(audit_head).with_for_update()).one_or_none()
    newest = select(audit_entry.c.id, audit_entry.c.digest).order_by(audit_entry.c.id.desc())
    row = connection.execute(newest.limit(1)).one_or_none()
    last, digest = (0, _BEGINNING) if row is None else (row.id, row.digest)
    if head is None:
        sealed = contents.seal(_HEAD_UID, digest)
        connection.execute(insert(audit_head).values(id=_HEAD, entries=last, digest=sealed))
        return last, digest, False
    try:
        whole = (head.entries, contents.open(_HEAD_UID, head.digest)) == (last, digest)
    except StoreFailed:
        whole = False
    return max(last, head.entries), digest, whole


def reseal(connection: Connection, contents: Contents) -> None:
    """Seals the end of the trail anew, with the newest key that contents are sealed with.

    An end that was altered is left as it is.
    """
    row = connection.execute(select(audit_head).with_for_update()).one_or_none()
    if row is not None:
        with suppress(StoreFailed):
            sealed = contents.seal(_HEAD_UID, contents.open(_HEAD_UID, row.digest))
            connection.execute(update(audit_head).values(digest=sealed))


def copied_end(
    connection: Connection, contents: Contents, to: Contents
) -> dict[str, object] | None:
    """The end of the trail, as it is to lie in another database.

    None where there is none, or it was altered, which shows there with the next entry.
    """
    row = connection.execute(select(audit_head)).one_or_none()
    if row is None:
        return None
    try:
        sealed = to.seal(_HEAD_UID, contents.open(_HEAD_UID, row.digest))
    except StoreFailed:
        return None
    return {"id": row.id, "entries": row.entries, "digest": sealed}


def entries(connection: Connection, since: int, before: int | None, limit: int) -> list[Entry]:
    """Up to `limit` entries of the time `since` and later, the newest first.

    `before` is the id that those of the next page come before.
    """
    chosen = select(*_COLUMNS).where(audit_entry.c.time >= since)
    if before is not None:
        chosen = chosen.where(audit_entry.c.id < before)
    rows = connection.execute(chosen.order_by(audit_entry.c.id.desc()).limit(limit))
    return [_entry(row) for row in rows]


def mistakes(connection: Connection, contents: Contents) -> Iterator[str]:
    """What is wrong with the trail, in words; nothing where it is whole."""
    digest, expected = _BEGINNING, 1
    while rows := _following(connection, expected):
        for row in rows:
            if row.id != expected:
                yield f"{_span(expected, row.id - 1)} missing"
            elif row.digest != _digest(digest, tuple(row)[:-1]):
                yield f"entry {row.id} was altered, or the one before it"
            digest, expected = row.digest, row.id + 1
    yield from _mistakes_of_head(connection, contents, expected - 1, digest)


def _following(connection: Connection, id_: int) -> Sequence[Any]:
    chosen = select(*_COLUMNS).where(audit_entry.c.id >= id_)
    return connection.execute(chosen.order_by(audit_entry.c.id).limit(_CHUNK)).all()


def _mistakes_of_head(
    connection: Connection, contents: Contents, last: int, digest: bytes
) -> Iterator[str]:
    head = connection.execute(select(audit_head)).one_or_none()
    if head is None:
        yield "the end of the trail is missing"
        return
    try:
        entries, end = head.entries, contents.open(_HEAD_UID, head.digest)
    except StoreFailed:
        yield "the end of the trail was altered"
        return
    if entries > last:
        yield f"{_span(last + 1, entries)} missing"
    elif (entries, end) != (last, digest):
        yield "the end of the trail is not what its last entry says"


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"the entries {first} to {last} are"


def _digest(before: bytes, values: Sequence[object]) -> bytes:
    return hashlib.sha256(before + msgspec.json.encode(list(values))).digest()


def _entry(row: Any) -> Entry:
    id_, time, actor, address, action, subject, detail, digest = row
    raw = msgspec.Raw(detail.encode())
    return Entry(id_, time, actor, address, action, subject, raw, digest.hex())
