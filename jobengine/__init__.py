"""JobEngine: a job queue over plain HTTP in one AES-encrypted file or on PostgreSQL."""

from importlib.metadata import version

__version__ = version("jobengine")
