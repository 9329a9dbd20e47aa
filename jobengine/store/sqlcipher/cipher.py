"""A SQLCipher file: its key, and connections to it.

Format and defaults are SQLCipher 4's, so its own shell opens the file with
`PRAGMA key = 'SECRET'` too.
"""

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.errors import CannotOpen, reason
from jobengine.store.secret_forms import OLD_FORM, forms
from jobengine.store.sqlcipher.files import beside, log_bytes
from jobengine.store.sqlcipher.first_page import (
    KEY_BYTES,
    SALT_BYTES,
    first_pages,
    verifies,
    was_never_complete,
)

_PLAIN_HEADER = b"SQLite format 3\x00"
HEAD_BYTES = len(_PLAIN_HEADER)
# SQLCipher 4's default (https://www.zetetic.net/sqlcipher/sqlcipher-api/#kdf_iter).
_KDF_ITERATIONS = 256_000
# How long a connection waits for a lock that another holds: only a checkpoint and a
# recovery after a crash ever hold one, for milliseconds.
_BUSY_SECONDS = 10
# A file that nobody writes, and that nothing is written beside, the -shm included.
_AT_REST = "?mode=ro&immutable=1"
# The same with its log read, whose index is kept in memory: an exclusive connection needs no
# -shm, and on this VFS no lock either, which a read-only file does not give.
_LOG_AT_REST = "?mode=ro&vfs=unix-none"
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
_NO_SHM = (sqlcipher.SQLITE_CANTOPEN, sqlcipher.SQLITE_READONLY)
_PRIMARY = 0xFF  # the part of an error's code that says its kind

_log = structlog.get_logger(component="store")


class CipherFile:
    """An encrypted file, with its key derived, once: PBKDF2 takes some 200 ms.

    Raises CannotOpen where it is a plain SQLite database, or the SECRET does not open it;
    nothing is written in either case.
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        salt = self._salt()
        self.is_new = salt is None
        salt = salt or os.urandom(SALT_BYTES)
        key = _key(forms(secret)[0], salt) if self.is_new else self._fitting_key(secret, salt)
        self._key = key
        # hex digits only: no quoting, whatever the SECRET is
        self._raw_key = f"x'{key.hex()}{salt.hex()}'"

    def at(self, path: Path) -> "CipherFile":
        """Another file of the same key and salt: a copy of this one."""
        copy = object.__new__(CipherFile)
        copy.path, copy.is_new = path, False
        copy._key, copy._raw_key = self._key, self._raw_key
        return copy

    def key_for(self, purpose: bytes) -> bytes:
        """A key for something else that whoever has the SECRET can make."""
        return hmac.digest(self._key, purpose, "sha256")

    def connect(self, options: str = "", *first: str) -> Any:
        """A connection that may write; `first` are the statements before it reads the file.

        Raises sqlcipher's errors.
        """
        connection = sqlcipher.connect(
            f"file://{quote(os.fsencode(self.path.absolute()))}{options}",
            uri=True,
            isolation_level=None,  # who uses it says BEGIN, nobody else
            check_same_thread=False,
            timeout=_BUSY_SECONDS,
        )
        try:
            connection.execute("PRAGMA cipher_log_level = NONE")
            connection.execute(f'PRAGMA key = "{self._raw_key}"')
            connection.execute("PRAGMA temp_store = MEMORY")
            # On macOS fsync leaves what was written in the disk's cache; elsewhere they do nothing.
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            for statement in first:
                connection.execute(statement)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlcipher.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def snapshot(self, *, at_rest: bool = False) -> Iterator[Any]:
        """A connection that sees the file as it is now, whatever a server does to it meanwhile.

        It can neither write nor checkpoint, not at its close either: the WAL-reset bug of
        SQLite 3.51.1 needs a second connection that does. A server can do both, but its log
        grows for as long as the snapshot is held. A file that is no server's, such as a
        backup, is left without a -wal and a -shm beside it; so is one that is known to be
        at rest, without a log.
        """
        served = beside(self.path, ".lock").exists() or log_bytes(self.path) > 0
        at_rest = at_rest or not served
        connection = self.connect(_AT_REST) if at_rest else self.connect_to_look("?mode=ro")
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection
        finally:
            connection.close()

    def connect_to_look(self, options: str = "") -> Any:
        """A connection that is not to change anything, also on a medium that cannot be written.

        Raises sqlcipher's errors.
        """
        try:
            return self.connect(options)
        except sqlcipher.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY not in _NO_SHM:
                raise
        # No -shm can be made there, and so no server is there either.
        if not log_bytes(self.path):
            return self.connect(_AT_REST)
        return self.connect(_LOG_AT_REST, _EXCLUSIVE)

    def _salt(self) -> bytes | None:
        """The salt that SQLCipher keeps in the first 16 bytes; None for a new file."""
        try:
            with self.path.open("rb") as file:
                head = file.read(SALT_BYTES)
            if was_never_complete(self.path):
                return None
        except FileNotFoundError:
            head = b""
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be read: {reason(error)}") from error
        if head == _PLAIN_HEADER:
            raise CannotOpen(
                f"{self.path} is a plain, unencrypted SQLite database: JobEngine opens "
                "encrypted ones only. Set DB_PATH to another file."
            )
        if 0 < len(head) < SALT_BYTES:
            raise CannotOpen(f"{self.path} is no JobEngine database: it is too short to be one")
        if not head and log_bytes(self.path):
            raise CannotOpen(
                f"{beside(self.path, '-wal')} is there without its database {self.path}, and a "
                "new database would overwrite it: put the database back, or move the -wal away"
            )
        return head or None

    def _fitting_key(self, secret: bytes, salt: bytes) -> bytes:
        """The key that opens the file, without SQLite: its connections change files.

        Closing one with a wrong key would checkpoint, and so destroy, what a crash left in
        the -wal.
        """
        keys: dict[bytes, bytes] = {}
        for page in first_pages(self.path):
            for form in forms(secret):
                key = keys[form] = keys.get(form) or _key(form, salt)
                if verifies(page, key, salt):
                    if form != forms(secret)[0]:
                        _log.warning(OLD_FORM, database=str(self.path))
                    return key
        raise CannotOpen(
            f"SECRET does not open {self.path}: it is not the SECRET that the file was "
            "made with, or the file is damaged. Nothing was changed."
        )


def _key(secret: bytes, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", secret, salt, _KDF_ITERATIONS, KEY_BYTES)


def assert_encrypted(path: Path, head: bytes) -> None:
    """Raises CannotOpen where the first HEAD_BYTES of the file are an unencrypted database's.

    They are the caller's to read: to close a descriptor on a file drops the locks that this
    process's connections hold on it.
    """
    if head == _PLAIN_HEADER:
        raise CannotOpen(f"{path} was not encrypted: this build of SQLCipher is broken")
