"""Passwords, kept as argon2id hashes (RFC 9106), with the parameters that the library advises."""

import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from jobengine.domain.errors import Busy

# Each takes 64 MiB while it is hashed: two at once in all of a process.
_running = threading.BoundedSemaphore(2)
# Those that are hashed or wait for it: more would hold the threads that others need.
_IN_LINE = 6

_hasher = PasswordHasher()


def hash_of(password: str) -> str:
    """What is kept of a password: another text each time, which says how it was made."""
    with _running:
        return _hasher.hash(_bytes(password))


def is_outdated(hash_: str) -> bool:
    """Whether the hash was made with other parameters than those of now."""
    return _hasher.check_needs_rehash(hash_)


@cache
def _nobodys_hash() -> str:
    """A hash that no password has, to be verified where there is no user."""
    return _hasher.hash(secrets.token_hex())


class Verifier:
    """Verifies passwords, a few at once."""

    def __init__(self) -> None:
        self._line = threading.BoundedSemaphore(_IN_LINE)

    def verify(self, hash_: str | None, password: str) -> bool:
        """Whether the hash is of the password; no password is that of None, in the same time.

        Raises Busy where too many ask at once.
        """
        with self._place_in_line(), _running:
            nobodys = _nobodys_hash()  # made for who is first, whether the user is known or not
            try:
                return _hasher.verify(hash_ or nobodys, _bytes(password))
            except VerifyMismatchError:
                return False

    @contextmanager
    def _place_in_line(self) -> Iterator[None]:
        if not self._line.acquire(blocking=False):
            raise Busy("too many log in at once: try again")
        try:
            yield
        finally:
            self._line.release()


def _bytes(password: str) -> bytes:
    """The same for the same characters, however a keyboard composes them (RFC 8265)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
