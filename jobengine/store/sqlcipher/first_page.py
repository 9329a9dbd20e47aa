"""The first page of an encrypted file, which says whether a SECRET opens it.

SQLCipher 4's format (https://www.zetetic.net/sqlcipher/design/): 16 bytes of salt, the encrypted
rest, and in the last 80 bytes an initialization vector and an HMAC of all but the salt.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from pathlib import Path

from jobengine.store.sqlcipher.files import beside
from jobengine.store.sqlcipher.wal import newest_page

SALT_BYTES = 16
KEY_BYTES = 32
_PAGE_BYTES, _HMAC_BYTES = 4096, 64
_NUMBER = struct.pack("<I", 1)
# The key of the HMAC is made of the key of the file, and of its salt with these bits flipped.
_SALT_MASK, _ITERATIONS = 0x3A, 2
# Of a rollback journal: magic, and after two more numbers the pages that the file had before.
_JOURNAL = struct.Struct(">8s2I3I")
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def first_pages(path: Path) -> Iterator[bytes]:
    """The first page as the file has it, and then as its log does. Raises OSError.

    A power cut in the middle of a checkpoint leaves the file's torn, and the log's is whole: a
    log is not begun anew before what is in it has been synced to the file.
    """
    with path.open("rb") as file:
        yield file.read(_PAGE_BYTES)
    logged = newest_page(path, 1)
    if logged is not None:
        yield logged


def verifies(page: bytes, key: bytes, salt: bytes) -> bool:
    """Whether a first page is as it was written under the key."""
    hmac_salt = bytes(byte ^ _SALT_MASK for byte in salt)
    hmac_key = hashlib.pbkdf2_hmac("sha512", key, hmac_salt, _ITERATIONS, KEY_BYTES)
    written, code = page[SALT_BYTES:-_HMAC_BYTES], page[-_HMAC_BYTES:]
    return len(page) == _PAGE_BYTES and hmac.compare_digest(
        hmac.digest(hmac_key, written + _NUMBER, "sha512"), code
    )


def was_never_complete(path: Path) -> bool:
    """Whether the file was cut off while it was made: SQLite rolls it back to nothing.

    Its rollback journal says that there was nothing before. Raises OSError.
    """
    try:
        with beside(path, "-journal").open("rb") as journal:
            head = journal.read(_JOURNAL.size)
    except FileNotFoundError:
        return False
    if len(head) < _JOURNAL.size:
        return False
    magic, _records, _nonce, pages, *_ = _JOURNAL.unpack(head)
    return bool(magic == _JOURNAL_MAGIC and pages == 0)
