"""What claims, updates and deletes share: where a batch works, and how it moves jobs."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from jobengine.domain.errors import ContentDamaged
from jobengine.store.contents import Contents
from jobengine.store.failures import damages_one_value
from jobengine.store.tables import statements
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.rows import Passed
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.walks import Place, Walks

# Jobs in their way that the claims of a batch may clear, expired or damaged ones, and that they
# may walk: some 10 ms of the writer's time for either, which all others have to wait.
_CLEARABLE = 500
_WALKABLE = 20_000


def always() -> bool:
    """The time may be trusted."""
    return True


class Work:
    """A connection in a transaction, as of `now`, and what has been done there.

    A `careful` one reads each content by itself in a savepoint, since one of them may be damaged.
    """

    __slots__ = (
        *("careful", "clearable", "connection", "contents", "cut", "now", "steady", "tally"),
        *("walkable", "walked", "walks"),
    )

    def __init__(
        self,
        connection: Connection,
        contents: Contents,
        now: int,
        steady: Callable[[], bool] = always,
        walks: Walks | None = None,
    ) -> None:
        """`contents` is how a job's content lies in the table; `steady` as in Clock.

        `walks` is where the claims of batches before came to.
        """
        self.connection = connection
        self.contents = contents
        self.now = now
        self.steady = steady
        self.tally = Tally()
        self.careful = False
        # How many jobs in their way claims may still clear, and walk.
        self.clearable = _CLEARABLE
        self.walkable = _WALKABLE
        self.walks = walks or Walks()
        # Where claims came to behind expired jobs, by the queue's id; None where at the end.
        self.walked: dict[int, Place | None] = {}
        # The ids of the queues whose claims the next batch has to go on with.
        self.cut: set[int] = set()

    def move(self, to: Passed, last_updated: int, ids: Sequence[int]) -> None:
        """Moves the jobs of these ids to another state."""
        code, since, by = to
        if code == INPROGRESS:
            claim = last_updated, since, since, by, by
            moved = statements.CLAIM.count(self.connection, ids, claim)
        else:
            move = code, last_updated, since, by
            moved = statements.MOVE.count(self.connection, ids, move)
        expect(len(ids), moved)

    def content(self, id_: int) -> bytes:
        """The content of the job of an id, as it lies in the table.

        Raises ContentDamaged where it is careful and the database cannot read it.
        """
        savepoint = self.connection.begin_nested() if self.careful else None
        try:
            content = bytes(statements.CONTENT.value(self.connection, {"job_id": id_}))
        except Exception as error:
            if savepoint is None or not damages_one_value(error):
                raise
            savepoint.rollback()
            raise ContentDamaged(f"the content of the job of id {id_} cannot be read") from error
        if savepoint is not None:
            savepoint.commit()
        return content

    def size(self, id_: int) -> int:
        """How many bytes that has."""
        return int(statements.CONTENT_SIZE.value(self.connection, {"job_id": id_}))


def expect(rows: int, touched: int) -> None:
    """Raises RuntimeError where a statement did not do what it was to."""
    if rows != touched:
        raise RuntimeError(f"a statement touched {touched} rows where {rows} were expected")
