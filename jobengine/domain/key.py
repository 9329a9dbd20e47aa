"""The keys that services call with: `je_<id>_<random>`."""

import hashlib
import hmac
import secrets

import msgspec

_PREFIX = "je"
_ID_BYTES = 6
# 256 bits: nobody guesses one, so a plain SHA-256 keeps it as well as a slow hash would.
_RANDOM_BYTES = 32


class Key(msgspec.Struct, frozen=True):
    """What is kept of a key. Times in seconds since the Unix epoch; None for never."""

    id: str
    service: str
    digest: bytes
    created: int
    expires: int | None = None
    revoked: int | None = None
    last_used: int | None = None

    def valid(self, now: int) -> bool:
        """Whether it may be called with."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def is_of(self, text: str) -> bool:
        """Whether the text is this key, told in the same time whatever the text is."""
        return hmac.compare_digest(self.digest, digest_of(text))


def new_key_text() -> str:
    """A new key, to be shown once."""
    return f"{_PREFIX}_{secrets.token_hex(_ID_BYTES)}_{secrets.token_hex(_RANDOM_BYTES)}"


def id_of(text: str) -> str:
    """The id in a key's text; nothing where the text is none."""
    parts = text.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == _PREFIX else ""


def digest_of(text: str) -> bytes:
    """The SHA-256 of a key's text, which is what is kept of it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
