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

from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.errors import CannotOpen, reason
from jobengine.store.failures import cause
from jobengine.store.sqlcipher.files import beside, log_bytes

_PLAIN_HEADER = b"SQLite format 3\x00"
HEAD_BYTES = len(_PLAIN_HEADER)
_SALT_BYTES = 16
# SQLCipher 4's defaults (https://www.zetetic.net/sqlcipher/sqlcipher-api/#kdf_iter).
_KDF_ITERATIONS = 256_000
_KEY_BYTES = 32
# How long a connection waits for a lock that another holds: only a checkpoint and a
# recovery after a crash ever hold one, for milliseconds.
_BUSY_SECONDS = 10
# A file that nobody writes, and that nothing is written beside, the -shm included.
_AT_REST = "?mode=ro&immutable=1"


class CipherFile:
    """An encrypted file, with its key derived, once: PBKDF2 takes some 200 ms.

    Raises CannotOpen where it is a plain SQLite database, or the SECRET does not open it;
    nothing is written in either case.
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        salt = self._salt()
        self.is_new = salt is None
        salt = salt or os.urandom(_SALT_BYTES)
        key = hashlib.pbkdf2_hmac("sha512", secret, salt, _KDF_ITERATIONS, _KEY_BYTES)
        self._key = key
        # hex digits only: no quoting, whatever the SECRET is
        self._raw_key = f"x'{key.hex()}{salt.hex()}'"
        if not self.is_new:
            self._check_key()

    def at(self, path: Path) -> "CipherFile":
        """Another file of the same key and salt: a copy of this one."""
        copy = object.__new__(CipherFile)
        copy.path, copy.is_new = path, False
        copy._key, copy._raw_key = self._key, self._raw_key
        return copy

    def key_for(self, purpose: bytes) -> bytes:
        """A key for something else that whoever has the SECRET can make."""
        return hmac.digest(self._key, purpose, "sha256")

    def connect(self, options: str = "") -> Any:
        """A connection that may write. Raises sqlcipher's errors."""
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
        connection = self.connect("?mode=ro" if served and not at_rest else _AT_REST)
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection
        finally:
            connection.close()

    def _salt(self) -> bytes | None:
        """The salt that SQLCipher keeps in the first 16 bytes; None for a new file."""
        try:
            with self.path.open("rb") as file:
                head = file.read(_SALT_BYTES)
        except FileNotFoundError:
            head = b""
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be read: {reason(error)}") from error
        if head == _PLAIN_HEADER:
            raise CannotOpen(
                f"{self.path} is a plain, unencrypted SQLite database: JobEngine opens "
                "encrypted ones only. Set DB_PATH to another file."
            )
        if 0 < len(head) < _SALT_BYTES:
            raise CannotOpen(f"{self.path} is no JobEngine database: it is too short to be one")
        if not head and log_bytes(self.path):
            raise CannotOpen(
                f"{beside(self.path, '-wal')} is there without its database {self.path}, and a "
                "new database would overwrite it: put the database back, or move the -wal away"
            )
        return head or None

    def _check_key(self) -> None:
        """Tries the key on a connection that cannot touch the file or its log.

        Closing an ordinary connection with a wrong key would checkpoint, and so
        destroy, what a crash left in the -wal.
        """
        try:
            self.connect(_AT_REST).close()
        except sqlcipher.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlcipher.SQLITE_CORRUPT:
                # The first page was decrypted, so the SECRET is right: a checkpoint was cut
                # off, and what the file lacks is in the -wal, which is not read here.
                return
            if getattr(error, "sqlite_errorcode", None) != sqlcipher.SQLITE_NOTADB:
                raise CannotOpen(f"{self.path} cannot be read: {cause(error)}") from error
            raise CannotOpen(
                f"SECRET does not open {self.path}: it is not the SECRET that the file was "
                "made with, or the file is damaged. Nothing was changed."
            ) from error


def assert_encrypted(path: Path, head: bytes) -> None:
    """Raises CannotOpen where the first HEAD_BYTES of the file are an unencrypted database's.

    They are the caller's to read: to close a descriptor on a file drops the locks that this
    process's connections hold on it.
    """
    if head == _PLAIN_HEADER:
        raise CannotOpen(f"{path} was not encrypted: this build of SQLCipher is broken")
