"""What takes its time on purpose, made cheap: keys are derived once, passwords hashed lightly.

Each takes 200 ms, and tests make databases, open them and log in over and over. So that a key
is known, new databases get a salt that is: for that, this module reaches into two others.
"""

import atexit
import hashlib
import os
import secrets
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from jobengine.engine import passwords
from jobengine.store.postgresql import database as postgresql
from jobengine.store.sqlcipher import cipher
from jobengine.store.sqlcipher.cipher import CipherFile

_DERIVE = hashlib.pbkdf2_hmac
_OPEN = CipherFile.__init__
_SALT = b"the salt of tests"


@cache
def folder() -> Path:
    """Where this process, and those that it starts, keep the keys that they derived."""
    made = tempfile.mkdtemp(prefix="keys-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def make_cheap(known: Path) -> None:
    """Has this process derive no key twice, nor any that is in the folder."""
    hashlib.pbkdf2_hmac = _Derived(known)  # type: ignore[assignment]  # called as it is
    passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    CipherFile.__init__ = _opened_with_a_known_salt  # type: ignore[method-assign]
    # For the first key of a database.
    vars(postgresql)["secrets"] = _Instead(secrets, token_bytes=lambda size: _SALT[:size])


def _opened_with_a_known_salt(self: CipherFile, path: Path, secret: bytes) -> None:
    """A new file gets the salt of all new files of its name, and so a key that is known."""
    salt = hashlib.sha256(_SALT + path.name.encode()).digest()
    vars(cipher)["os"] = _Instead(os, urandom=lambda size: salt[:size])
    _OPEN(self, path, secret)


class _Instead:
    """A module, but for something."""

    def __init__(self, module: Any, **instead: Any) -> None:
        self._module = module
        vars(self).update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Derived:
    """Stands in for hashlib.pbkdf2_hmac, with what it gave before in a folder."""

    def __init__(self, known: Path) -> None:
        self._folder = known

    def __call__(self, name: str, password: bytes, salt: bytes, rounds: int, length: int) -> bytes:
        inputs = repr((name, password, salt, rounds, length)).encode()
        known = self._folder / hashlib.sha256(inputs).hexdigest()
        try:
            key = known.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) != length:  # not there, or its writer was killed
            key = _DERIVE(name, password, salt, rounds, length)
            known.write_bytes(key)
        return key
