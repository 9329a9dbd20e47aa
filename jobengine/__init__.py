"""JobEngine: a job queue over plain HTTP in one AES-encrypted file."""

from importlib.metadata import version

__version__ = version("jobengine")
