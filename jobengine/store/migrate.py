"""Brings the schema to the newest version, from a checkout or an installed wheel."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

import jobengine
from jobengine.domain.errors import CannotOpen


def migrations() -> Path:
    """The folder of migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(jobengine.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrades the schema to the revision, in one transaction.

    Raises CannotOpen where the database was made by a newer version.
    """
    config = _config()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        scripts = ScriptDirectory.from_config(config)
        known = {script.revision for script in scripts.walk_revisions()}
        connection.rollback()
        if current is not None and current not in known:
            raise CannotOpen(
                f"the database has schema {current}, which this version does not know: "
                "it was written by a newer JobEngine"
            )
        if revision == "head" and current == scripts.get_current_head():
            return  # the check of foreign keys after a migration reads every job
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Takes the schema back to the revision ("base" for nothing), in one transaction."""
    config = _config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return config
