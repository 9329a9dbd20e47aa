"""What was counted along the way, against a count of everything."""

from collections.abc import Mapping

from sqlalchemy import func, select

from jobengine.config.environment import read_environment
from jobengine.store.database import Use
from jobengine.store.opening import open_database
from jobengine.store.tables.depths import depths
from jobengine.store.tables.models import STATE_OF, job


def check(env: Mapping[str, str]) -> None:
    """Fails where the depths of a database, which no server has open, are not its jobs."""
    launch = read_environment(env)
    database = open_database(launch.database, launch.secret.value, Use.ALONE)
    by_state = select(job.c.queue_id, job.c.state, func.count())
    with database.readers.connect() as connection:
        noted = depths(connection)
        counted = connection.execute(by_state.group_by(job.c.queue_id, job.c.state)).all()
    database.close()
    jobs = {(id_, STATE_OF[code]): count for id_, code, count in counted}
    found = {(id_, state): n for id_, each in noted.items() for state, n in each.items() if n}
    assert found == jobs
