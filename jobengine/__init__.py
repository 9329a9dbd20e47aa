"""JobEngine: a job queue over plain HTTP in one AES-encrypted file or on PostgreSQL."""

__version__: str


def __getattr__(name: str) -> str:
    # Found when it is asked for: it takes longer to import than a signal at the start may wait.
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("jobengine")
