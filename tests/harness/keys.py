"""Keys derived once: each takes 200 ms, and these tests open the same databases over and over."""

import hashlib
from pathlib import Path

_DERIVE = hashlib.pbkdf2_hmac


class Derived:
    """Stands in for hashlib.pbkdf2_hmac, with what it gave before in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
