"""Contents sealed one by one, for a database that is not encrypted itself.

AES-256-GCM under a key for each job, made from the master key by HKDF over the job's
uid: with one key for all, its random nonces would meet NIST's bound of 2³² uses in days
(SP 800-38D, section 8.3). The uid is authenticated too, so that no content can be moved
to another job.

What is stored: the id of the master key (2 bytes), the nonce (12), the ciphertext, and
GCM's tag (16).
"""

import hashlib
import os
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from jobengine.domain.errors import StoreFailed
from jobengine.domain.uids import uid_text

SALT_BYTES = 16
# As for the encrypted file: PBKDF2 with SQLCipher 4's number of rounds.
_ITERATIONS = 256_000
_KEY_BYTES = 32
_KEY_ID = struct.Struct(">H")
_NONCE_BYTES = 12
_HEAD_BYTES = _KEY_ID.size + _NONCE_BYTES
_PURPOSE = b"jobengine content "
# Sealed with each master key, under a uid that no job has, to recognise its SECRET by.
_CANARY_UID = bytes(16)
_CANARY = b"jobengine"


def master_key(secret: bytes, salt: bytes) -> bytes:
    """The master key of a SECRET. Takes some 200 ms."""
    return hashlib.pbkdf2_hmac("sha512", secret, salt, _ITERATIONS, _KEY_BYTES)


class SealedContents:
    """Seals with the newest of the master keys, and opens with the one that sealed."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """`keys` are the master keys by their ids, at least one; ids rise with time."""
        self._keys = dict(keys)
        self._newest = max(keys)

    def seal(self, uid: bytes, content: bytes) -> bytes:
        """See Contents."""
        head = _KEY_ID.pack(self._newest)
        nonce = os.urandom(_NONCE_BYTES)
        return head + nonce + self._cipher(self._newest, uid).encrypt(nonce, content, head + uid)

    def open(self, uid: bytes, sealed: bytes) -> bytes:
        """See Contents."""
        try:
            (key_id,) = _KEY_ID.unpack_from(sealed)
            nonce = sealed[_KEY_ID.size : _HEAD_BYTES]
            authenticated = sealed[: _KEY_ID.size] + uid
            return self._cipher(key_id, uid).decrypt(nonce, sealed[_HEAD_BYTES:], authenticated)
        except (InvalidTag, KeyError, ValueError, struct.error) as error:
            raise StoreFailed(
                f"the content of the job {uid_text(uid)} is damaged, or sealed with another SECRET"
            ) from error

    def canary(self) -> bytes:
        """What `opens` is to be asked about, at a later start."""
        return self.seal(_CANARY_UID, _CANARY)

    def opens(self, canary: bytes) -> bool:
        """Whether the canary was sealed with one of the keys."""
        try:
            return self.open(_CANARY_UID, canary) == _CANARY
        except StoreFailed:
            return False

    def _cipher(self, key_id: int, uid: bytes) -> AESGCM:
        expand = HKDFExpand(SHA256(), _KEY_BYTES, _PURPOSE + uid)
        return AESGCM(expand.derive(self._keys[key_id]))
