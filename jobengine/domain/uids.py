"""Uids: UUIDs, 16 bytes in the store and 36 characters on the wire."""

import re

_TEXT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def uid_text(uid: bytes) -> str:
    """A uid as it is written on the wire (RFC 9562, section 4)."""
    digits = uid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a uid in the form of `uid_text`, in either case; None for any other text."""
    if _TEXT.fullmatch(text) is None:
        return None
    return bytes.fromhex(text.replace("-", ""))
