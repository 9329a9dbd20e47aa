"""Whether the -wal beside a database is of that database, and not of one that it replaced.

SQLite plays any -wal into the file that it lies next to, if the checksums are right and the
pages decrypt; a backup has the key and the salt of its source. So each start of a server, and
each copy that a command makes, has a random epoch, in the file's user_version, and the server
notes in the `.lock` which epoch its -wal belongs to. The note says which -wal it speaks of, too:
file and -wal may be copied, moved or put back together, with the `.lock` or without.
"""

import re
import secrets
import struct
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.errors import CannotOpen
from jobengine.store.sqlcipher.cipher import CipherFile
from jobengine.store.sqlcipher.files import beside

_NOTE = re.compile(r"epoch (?P<epoch>[0-9]+) log (?P<first>[0-9]+)\n")
# Of the header of a -wal: the first salt, random for a new one, and counted up by one each
# time that the log begins anew (https://www.sqlite.org/fileformat2.html#walformat).
_SALT_AT, _SALT = 16, struct.Struct(">I")
# How often a log may begin anew, after some 4 MB each time, and still be known; by chance one
# of 4,096 other logs looks the same.
_ROUNDS = 1 << 20
# A version before began each log with a salt of 1.
_SALT_MIN = 1 << 16
_EPOCH_BITS = 31


def begin_epoch(connection: Any) -> int:
    """Gives the database of a connection an epoch of its own, in its next transaction."""
    epoch = secrets.randbits(_EPOCH_BITS)
    connection.execute(f"PRAGMA user_version = {epoch}")
    return epoch


def note_on_log(database: Path, epoch: int) -> str:
    """The note that the -wal, as it is now and goes on, belongs to the epoch."""
    salt = _first_salt(database)
    return f"epoch {epoch} log {salt}\n" if salt and salt >= _SALT_MIN else ""


def refuse_foreign_log(file: CipherFile, note: str) -> None:
    """Raises CannotOpen where the -wal beside the file was written to another.

    Where the note does not speak of this -wal, or the file's first page cannot be read
    without the log, nothing can be said.
    """
    noted, salt = _NOTE.fullmatch(note), _first_salt(file.path)
    if noted is None or salt is None or (salt - int(noted["first"])) % (1 << 32) >= _ROUNDS:
        return
    if _epoch_in_file(file) in (None, int(noted["epoch"])):
        return
    log = beside(file.path, "-wal")
    raise CannotOpen(
        f"{log} is not the log of {file.path}, but of the database that was there before: played "
        "into this one, it would destroy it. If this is the database to go on with, such as a "
        "backup, move the log away (`jobengine restore` does all of that); if not, put the "
        "database back that the log belongs to. Nothing was changed."
    )


def _epoch_in_file(file: CipherFile) -> int | None:
    """The epoch in the file, without its log; None where the first page is not whole."""
    try:
        connection = file.connect("?mode=ro&immutable=1")
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
    except (sqlcipher.Error, MemoryError):
        return None


def _first_salt(database: Path) -> int | None:
    """The first salt in the header of the -wal; None where there is no log."""
    try:
        with beside(database, "-wal").open("rb") as log:
            head = log.read(_SALT_AT + _SALT.size)
    except OSError:
        return None
    return _SALT.unpack_from(head, _SALT_AT)[0] if len(head) == _SALT_AT + _SALT.size else None
