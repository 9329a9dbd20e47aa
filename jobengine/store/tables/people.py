"""The tables of the dashboard's users and of their sessions."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, exists, insert, select, update

from jobengine.domain.user import Role, User, Visitor
from jobengine.store.tables.models import web_session, web_user

_COLUMNS = (web_user.c.name, web_user.c.role, web_user.c.reveal, web_user.c.created)


class Session(NamedTuple):
    """A login. `digest` is the SHA-256 of its token; times in seconds since the Unix epoch."""

    digest: bytes
    user_name: str
    created: int
    expires: int


def all_users(connection: Connection) -> list[User]:
    """Every user, by name."""
    rows = connection.execute(select(*_COLUMNS))
    return sorted((_user(row) for row in rows), key=lambda user: user.name)


def any_user(connection: Connection) -> bool:
    """Whether there is a user."""
    return bool(connection.execute(select(exists().select_from(web_user))).scalar_one())


def find_user(connection: Connection, name: str) -> User | None:
    """The user of the name; None where there is none."""
    row = connection.execute(select(*_COLUMNS).where(web_user.c.name == name)).one_or_none()
    return None if row is None else _user(row)


def find_hash(connection: Connection, name: str) -> str | None:
    """The hash of the user's password; None where there is no such user."""
    chosen = select(web_user.c.hash).where(web_user.c.name == name)
    return connection.execute(chosen).scalar_one_or_none()


def add_user(connection: Connection, user: User, hash_: str) -> None:
    """Adds a user of a name that nobody has."""
    values = {"name": user.name, "role": user.role.value, "reveal": user.reveal}
    added = insert(web_user).values(**values, hash=hash_, created=user.created)
    connection.execute(added)


def remove_user(connection: Connection, name: str) -> None:
    """Removes the user and their sessions."""
    end_sessions(connection, name)
    connection.execute(delete(web_user).where(web_user.c.name == name))


def set_hash(connection: Connection, name: str, hash_: str) -> None:
    """Gives the user the hash of a password."""
    connection.execute(update(web_user).where(web_user.c.name == name).values(hash=hash_))


def end_sessions(connection: Connection, name: str) -> None:
    """Ends every session of the user."""
    connection.execute(delete(web_session).where(web_session.c.user_name == name))


def add_session(connection: Connection, session: Session) -> None:
    """Adds a session."""
    connection.execute(insert(web_session).values(session._asdict()))


def end_session(connection: Connection, digest: bytes) -> None:
    """Ends the session, where there is one."""
    connection.execute(delete(web_session).where(web_session.c.digest == digest))


def find_visitor(connection: Connection, digest: bytes, now: int) -> Visitor | None:
    """Whose session it is; None where there is none, or it has expired."""
    chosen = (
        select(web_user.c.name, web_user.c.role, web_user.c.reveal)
        .join_from(web_session, web_user)
        .where(web_session.c.digest == digest, web_session.c.expires > now)
    )
    row = connection.execute(chosen).one_or_none()
    return None if row is None else Visitor(row.name, Role(row.role), row.reveal)


def expired_sessions(connection: Connection, now: int, limit: int) -> list[bytes]:
    """Up to `limit` sessions that have expired, by their digests."""
    chosen = select(web_session.c.digest).where(web_session.c.expires <= now).limit(limit)
    return list(connection.execute(chosen).scalars())


def delete_sessions(connection: Connection, digests: list[bytes]) -> int:
    """Deletes the sessions; how many there were."""
    gone = connection.execute(delete(web_session).where(web_session.c.digest.in_(digests)))
    return gone.rowcount


def _user(row: Any) -> User:
    return User(row.name, Role(row.role), row.reveal, row.created)
