"""The `jobengine` command and what it exits with."""

import errno
import sys
from collections.abc import Sequence

import click
from sqlalchemy.exc import SQLAlchemyError

from jobengine import __version__, logs
from jobengine.cli.audit import audit
from jobengine.cli.backup import backup
from jobengine.cli.config import config
from jobengine.cli.hardening import harden
from jobengine.cli.keys import keys
from jobengine.cli.move import move
from jobengine.cli.rekey import rekey
from jobengine.cli.restore import restore
from jobengine.cli.serve import serve
from jobengine.cli.users import users
from jobengine.cli.verify import verify
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotStart, ConfigRefused, Unavailable, reason
from jobengine.engine.administration import Refused
from jobengine.store.failures import cause

EXIT_CANNOT_OPEN = 1
EXIT_MISTAKE = 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  SECRET=... jobengine serve --config ./config.yml --db ./jobs.queuedb
  SECRET=... jobengine config plan --config ./config.yml --db ./jobs.queuedb
  SECRET=... jobengine move --db ./jobs.queuedb --to postgresql+psycopg://user@host/jobs
  SECRET=... jobengine backup --db ./jobs.queuedb ./backup.queuedb
  jobengine serve --help

\b
Exit codes of every command but serve, besides its own:
  1         stdout cannot take what is printed
  130, 143  ended by SIGINT or SIGTERM, with nothing half done: run it again
""",
)
@click.version_option(__version__)
def commands() -> None:
    """JobEngine: a job queue over plain HTTP, in one AES-encrypted file or on PostgreSQL.

    Applications create jobs in named queues, others claim them in order of priority and
    mark them complete or failed. `serve` is all that is needed.
    """


commands.add_command(serve)
commands.add_command(move)
commands.add_command(config)
commands.add_command(keys)
commands.add_command(users)
commands.add_command(audit)
commands.add_command(backup)
commands.add_command(restore)
commands.add_command(verify)
commands.add_command(rekey)


def main(arguments: Sequence[str] | None = None, clock: Clock | None = None) -> None:
    """Runs a command and exits with its code. Tests pass a clock of their own."""
    harden()
    logs.set_up("warning")  # `serve` sets it again, by the environment
    try:
        commands.main(arguments, prog_name="jobengine", obj=clock)
    except (CannotStart, Refused) as error:
        print(f"jobengine: {error}", file=sys.stderr)  # noqa: T201  an error for the terminal
        sys.exit(EXIT_MISTAKE if isinstance(error, ConfigRefused) else EXIT_CANNOT_OPEN)
    except (Unavailable, SQLAlchemyError) as error:
        failed = cause(error.__cause__ or error)
        print(f"jobengine: the database failed: {failed}", file=sys.stderr)  # noqa: T201  likewise
        sys.exit(EXIT_CANNOT_OPEN)
    except OSError as error:  # such as a stdout that cannot take what was printed
        what = "stdout cannot be written: " if _is_of_stdout(error) else ""
        print(f"jobengine: {what}{reason(error)}", file=sys.stderr)  # noqa: T201  likewise
        sys.exit(EXIT_CANNOT_OPEN)


def _is_of_stdout(error: OSError) -> bool:
    """Whether it was met by printing; errors of files name them."""
    printing = (errno.EBADF, errno.EIO, errno.ENOSPC, errno.EPIPE)
    return error.filename is None and error.errno in printing
