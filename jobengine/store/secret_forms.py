"""A SECRET with the end of a line behind it: the same text, whichever way it is given."""

OLD_FORM = (
    "the SECRET opens the database only with the end of a line behind it: `jobengine rekey`, with"
    " the same text without it as NEW_SECRET, makes it open either way"
)


def forms(secret: bytes) -> tuple[bytes, ...]:
    """The SECRET without the end of its last line, and as it was given where that differs.

    What is new gets the first. `export SECRET="$(cat file)"` drops a newline and a unit file or
    a compose file may not, and until 0.1.0 such a database got the second.
    """
    line = secret.removesuffix(b"\n").removesuffix(b"\r")
    return (line, secret) if line not in (b"", secret) else (secret,)
