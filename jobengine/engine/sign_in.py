"""Logging in and out of the dashboard, and who is logged in."""

import hashlib
import hmac
import secrets

import msgspec
import structlog
from sqlalchemy import Connection

from jobengine.domain.audit import Act, by_dashboard
from jobengine.domain.clock import Clock
from jobengine.domain.errors import Unauthenticated
from jobengine.domain.user import Visitor, is_user_name
from jobengine.engine.attempts import Attempts, counters
from jobengine.engine.passwords import Verifier, hash_of, is_outdated
from jobengine.store.database import Database
from jobengine.store.reads import Reads
from jobengine.store.tables import people
from jobengine.store.tables.audit import record
from jobengine.store.tables.people import Session
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

SESSION_SECONDS = 12 * 60 * 60
# 256 bits: nobody guesses one, so a plain SHA-256 keeps it as well as a slow hash would.
_TOKEN_BYTES = 32

_log = structlog.get_logger(component="sign_in")


class SignedIn(msgspec.Struct, frozen=True):
    """What the browser keeps of a login: the session's token, and what it is known by later."""

    token: str
    mark: str


class SignIn:
    """Sessions of the dashboard.

    They are read from the database at each page: one that has ended has ended on all servers.
    """

    def __init__(self, writer: Writer, reads: Reads, clock: Clock, database: Database) -> None:
        self._writer = writer
        self._reads = reads
        self._clock = clock
        self._database = database
        self._verifier = Verifier()
        self._attempts = Attempts(clock.elapsed)

    def sign_in(self, name: str, password: str, address: str, mark: str = "") -> SignedIn:
        """Begins a session of SESSION_SECONDS.

        `mark` is what the browser had from an earlier login, if any. Raises Unauthenticated,
        after the same time whether the name or the password is wrong; RateExceeded where too
        many logins failed; Unavailable.
        """
        hash_ = self._hash(name)
        known = hash_ is not None and hmac.compare_digest(_mark(name, hash_), mark.encode())
        counted = counters(name if is_user_name(name) else "", address, known=known)
        with self._attempts.attempt(counted):
            right = self._verifier.verify(hash_, password)
            begun = self._begin(name, password, hash_, address) if hash_ and right else None
            if begun is None:
                # A name that no user has may be a password in the wrong field.
                who = name if hash_ is not None else "(unknown)"
                _log.warning("a login failed", user=who, address=address)
                raise Unauthenticated("there is no user of that name with that password")
        return begun

    def visitor(self, token: str) -> Visitor | None:
        """Who is logged in with the token; None where nobody is. Raises StoreFailed."""
        with self._reads.connection() as connection:
            return people.find_visitor(connection, _digest(token), self._clock.now())

    def sign_out(self, token: str) -> None:
        """Ends the session. Raises Unavailable."""
        digest = _digest(token)
        self._writer.submit(Task(lambda connection: people.end_session(connection, digest)))

    def _hash(self, name: str) -> str | None:
        if not is_user_name(name):
            return None
        with self._reads.connection() as connection:
            return people.find_hash(connection, name)

    def _begin(self, name: str, password: str, hash_: str, address: str) -> SignedIn | None:
        """A new session; None where the password was changed while it was verified."""
        token, now = secrets.token_urlsafe(_TOKEN_BYTES), self._clock.now()
        newest = hash_of(password) if is_outdated(hash_) else hash_
        act = Act(by_dashboard(name, address), "user.signed_in", name)

        def begin(connection: Connection) -> bool:
            self._database.lock_shared(connection)
            if people.find_hash(connection, name) != hash_:
                return False
            if newest != hash_:
                people.set_hash(connection, name, newest)
            session = Session(_digest(token), name, now, now + SESSION_SECONDS)
            people.add_session(connection, session)
            record(connection, self._database.contents, [act], now)
            return True

        if not self._writer.submit(Task(begin)):
            return None
        return SignedIn(token, _mark(name, newest).decode())


def _mark(name: str, hash_: str) -> bytes:
    """What a browser is known by that the user has logged in with, until the password changes.

    Only who has the hash can make it, so nothing is kept of it.
    """
    key = hashlib.sha256(hash_.encode()).digest()
    return hmac.new(key, b"jobengine browser of " + name.encode(), "sha256").hexdigest().encode()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
