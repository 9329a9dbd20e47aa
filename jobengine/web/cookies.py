"""The cookies that the pages set, read in one pass over the header.

http.cookies, and so Falcon, takes seconds for a header full of backslashes
(CVE-2024-7592, before Python 3.11.10 and 3.12.6).
"""

import re

from falcon import Request

# What a token, a mark and a percent-encoded notice are made of (RFC 3986, section 2.3).
_VALUE = re.compile(r"[A-Za-z0-9._~%-]{1,4096}")


def cookie(req: Request, name: str) -> str:
    """The value of the first cookie of that name; nothing where it is none of ours."""
    for pair in req.env.get("HTTP_COOKIE", "").split(";"):
        key, _, value = pair.partition("=")
        if key.strip(" \t") == name:
            value = value.strip(" \t")
            return value if _VALUE.fullmatch(value) else ""
    return ""
