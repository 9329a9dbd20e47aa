"""The settings that a server starts with, its config's or generated ones."""

import structlog

from jobengine.config.document import read_settings
from jobengine.config.settings import Launch, Settings
from jobengine.config.template import write_default
from jobengine.domain.errors import CannotOpen, ConfigRefused
from jobengine.store.database import Database
from jobengine.store.tables.queues import count_queues

_log = structlog.get_logger(component="service")


def read_if_present(launch: Launch) -> Settings | None:
    """The settings in the config; None where there is none. Raises ConfigRefused."""
    try:
        return read_settings(launch.config_path)
    except FileNotFoundError:
        return None


def settle(launch: Launch, settings: Settings | None, database: Database) -> Settings:
    """The settings to serve with: those of the config, or of one generated here.

    Refuses a missing config, or one without queues, beside a database with some: a
    mistyped CONFIG_PATH must not erase everything, nor let everybody in.
    """
    if (settings is None or settings.queues is None) and not database.is_new:
        queues = _count_queues(database, of_config=settings is not None)
        if queues:
            what = "is missing" if settings is None else "has no `queues`"
            mistake = (
                f"it {what}, but {database.place} holds {queues} queue(s), which would be "
                "deleted with their jobs, or open to anybody: check CONFIG_PATH, or write "
                "`queues: {}`"
            )
            raise ConfigRefused(f"the config {launch.config_path}", [mistake])
    return settings or _generate(launch)


def _count_queues(database: Database, *, of_config: bool) -> int:
    with database.readers.connect() as connection:
        return count_queues(connection, of_config=of_config)


def _generate(launch: Launch) -> Settings:
    try:
        write_default(launch.config_path)
    except OSError as error:
        raise CannotOpen(
            f"there is no config at {launch.config_path}, and none can be written: {error.strerror}"
        ) from error
    _log.warning("config generated, without queues: add yours to it", path=str(launch.config_path))
    return read_settings(launch.config_path)
