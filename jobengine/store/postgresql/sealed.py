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
import threading
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from jobengine.domain.errors import ContentDamaged
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
    """Seals with the newest of the master keys, and opens with the one that sealed.

    Threads may share it.
    """

    def __init__(
        self, keys: Mapping[int, bytes], find: Callable[[], Mapping[int, bytes]] | None = None
    ) -> None:
        """`keys` are the master keys by their ids, at least one; ids rise with time.

        `find` gives all that there are by now, for a content sealed with none of them.
        """
        self._keys = dict(keys)
        # The id of the key that seals.
        self.newest = max(keys)
        self._find = find
        self._finding = threading.Lock()

    def seal(self, uid: bytes, content: bytes) -> bytes:
        """See Contents."""
        newest = self.newest
        head = _KEY_ID.pack(newest)
        nonce = os.urandom(_NONCE_BYTES)
        return head + nonce + self._cipher(newest, uid).encrypt(nonce, content, head + uid)

    def open(self, uid: bytes, sealed: bytes) -> bytes:
        """See Contents."""
        try:
            (key_id,) = _KEY_ID.unpack_from(sealed)
            if key_id not in self._keys:
                self.look_for_keys()
            nonce = sealed[_KEY_ID.size : _HEAD_BYTES]
            authenticated = sealed[: _KEY_ID.size] + uid
            return self._cipher(key_id, uid).decrypt(nonce, sealed[_HEAD_BYTES:], authenticated)
        except (InvalidTag, KeyError, ValueError, struct.error) as error:
            raise ContentDamaged(
                f"the content of the job {uid_text(uid)} is damaged, or sealed with another SECRET"
            ) from error

    def look_for_keys(self) -> None:
        """Learns of a key that is newer than those it has. Raises what `find` does."""
        if self._find is not None:
            with self._finding:
                self._keys |= self._find()
                self.newest = max(self._keys)

    def canary(self) -> bytes:
        """What `opens` is to be asked about, at a later start."""
        return self.seal(_CANARY_UID, _CANARY)

    def opens(self, canary: bytes) -> bool:
        """Whether the canary was sealed with one of the keys."""
        try:
            return self.open(_CANARY_UID, canary) == _CANARY
        except ContentDamaged:
            return False

    def wrap(self, key_id: int, key: bytes) -> bytes:
        """A master key, sealed as the content of no job, for its id alone."""
        return self.seal(_uid_of(key_id), key)

    def unwrap(self, key_id: int, wrapped: bytes) -> bytes:
        """The master key of that id. Raises ContentDamaged where none of the keys sealed it."""
        return self.open(_uid_of(key_id), wrapped)

    def _cipher(self, key_id: int, uid: bytes) -> AESGCM:
        expand = HKDFExpand(SHA256(), _KEY_BYTES, _PURPOSE + uid)
        return AESGCM(expand.derive(self._keys[key_id]))


def key_prefix(key_id: int) -> bytes:
    """What each content begins with that the key sealed."""
    return _KEY_ID.pack(key_id)


def _uid_of(key_id: int) -> bytes:
    """A uid that no job has, since it lacks a version, and that is not the canary's."""
    return key_id.to_bytes(len(_CANARY_UID), "big")
