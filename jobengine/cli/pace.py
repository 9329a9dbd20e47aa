"""How slow a client may be, whichever server speaks HTTP with it."""

from typing import NamedTuple

# What a client must send of a body, and take of an answer, on average. A MiB takes four
# minutes at this rate, which a GPRS modem makes.
BYTES_A_SECOND = 4096


class Pace(NamedTuple):
    """`seconds` for a request's head, and on top of them the time that its body takes."""

    seconds: int
    body_max_bytes: int

    @property
    def whole(self) -> float:
        """Seconds from the first byte of a request to its last."""
        return self.seconds + self.body_max_bytes / BYTES_A_SECOND

    @property
    def taken_bytes(self) -> int:
        """What a client must take of an answer in `seconds`, where so much is left."""
        return self.seconds * BYTES_A_SECOND
