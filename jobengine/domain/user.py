"""Users of the dashboard: who may see and do what there."""

import re
from enum import Enum

import msgspec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
USER_NAME_RULE = "1–64 letters, digits and . _ @ + -, a letter or a digit first"

_PASSWORD_CHARACTERS_MIN = 12
_PASSWORD_BYTES_MAX = 1000
PASSWORD_RULE = (
    f"at least {_PASSWORD_CHARACTERS_MIN} characters, none of them NUL, "
    f"and at most {_PASSWORD_BYTES_MAX:,} bytes"
)


def is_user_name(text: str) -> bool:
    """Whether the text can be the name of a user (see USER_NAME_RULE)."""
    return _NAME.fullmatch(text) is not None


def is_password(text: str) -> bool:
    """Whether the text can be a password (see PASSWORD_RULE)."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return (
        "\0" not in text and len(text) >= _PASSWORD_CHARACTERS_MIN and size <= _PASSWORD_BYTES_MAX
    )


class Role(Enum):
    """What a user may do; each role may also do what those before it may."""

    VIEWER = "viewer"  # sees queues and counts, and no contents
    OPERATOR = "operator"  # sees contents, and acts on jobs
    ADMIN = "admin"  # administers queues, and sees keys, users and the audit trail

    def at_least(self, other: "Role") -> bool:
        """Whether it may do all that the other may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class User(msgspec.Struct, frozen=True):
    """A user, but for the password. `created` is seconds since the Unix epoch.

    `reveal` lets a viewer have contents shown one by one, each noted in the audit trail.
    """

    name: str
    role: Role
    reveal: bool
    created: int


class Visitor(msgspec.Struct, frozen=True):
    """The user who is logged in and looks at a page."""

    name: str
    role: Role
    reveal: bool = False

    @property
    def sees_contents(self) -> bool:
        """Whether contents are shown without a word."""
        return self.role.at_least(Role.OPERATOR)
