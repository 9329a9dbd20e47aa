"""Uids: UUIDs, 16 bytes in the store and 36 characters on the wire."""

import re

from uuid_utils import UUID

_TEXT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def uid_text(uid: bytes) -> str:
    """A uid as it is written on the wire (RFC 9562, section 4)."""
    return str(UUID(bytes=uid))


def uid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a uid in the form of `uid_text`, in either case; None for any other text."""
    if _TEXT.fullmatch(text) is None:
        return None
    return bytes.fromhex(text.replace("-", ""))
