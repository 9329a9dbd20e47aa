"""Lengths of time as they are written on a command line: 30m, 12h, 90d, 4w."""

import re

DURATION_FORM = "a length of time such as 30m, 12h, 90d or 4w"
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# A thousand years; times stay within the year 9999.
_LONGEST_SECONDS = 1000 * 365 * 86400


def seconds_in(text: str) -> int | None:
    """The seconds that the text says; None where it is no DURATION_FORM."""
    found = re.fullmatch(r"([0-9]{1,9})([mhdw])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    return seconds if 0 < seconds <= _LONGEST_SECONDS else None
