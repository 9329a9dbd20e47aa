"""The one thread that writes: group commit.

Callers hand it operations and wait. It takes all that are waiting, runs them as
one batch, commits once, and so fsyncs once, and then lets all the callers go. A
lone caller waits for nobody; under load one fsync serves many.
"""

import queue
import threading
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine

from jobengine.domain.clock import Clock
from jobengine.domain.errors import Stopping, StoreFailed
from jobengine.store import batch
from jobengine.store.operations import Operation

T = TypeVar("T")

# More than there are request threads; a bound on what one commit may have to undo.
_BATCH_MAX = 512

_log = structlog.get_logger("jobengine.writer")


class Writer:
    """Owns the write connection. Start it once; any thread may submit."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._waiting: queue.SimpleQueue[Operation[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = threading.Event()
        self._connection: Connection | None = None

    def start(self) -> None:
        """Begins to take operations."""
        self._thread.start()

    def submit(self, operation: Operation[T]) -> T:
        """Waits until the operation is committed, on disk, and gives its outcome.

        Raises what the operation was refused with; StoreFailed where the commit
        failed, in which case nothing of the batch was done; Stopping after `stop`.
        """
        if self._stopped.is_set():
            raise Stopping("the server is shutting down")
        self._waiting.put(operation)
        if self._stopped.is_set() and not self._thread.is_alive():
            self._refuse_waiting()  # it slipped in behind the end
        return operation.wait()

    def alive(self) -> bool:
        """Whether operations are being taken."""
        return self._thread.is_alive() and not self._stopped.is_set()

    def stop(self) -> None:
        """Finishes what was submitted and closes the connection."""
        self._stopped.set()
        self._waiting.put(None)
        self._thread.join()
        self._refuse_waiting()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            operations: list[Operation[Any]] = []
            operation = self._waiting.get()
            while operation is not None:
                operations.append(operation)
                if len(operations) == _BATCH_MAX or self._waiting.empty():
                    break
                operation = self._waiting.get()
            stopping = operation is None
            if operations:
                self._commit(operations)
        self._renew()

    def _commit(self, operations: list[Operation[Any]]) -> None:
        try:
            connection = self._connection or self._engine.connect()
            self._connection = connection
            with connection.begin():
                batch.run(connection, operations, self._clock.now())
        except Exception as error:  # noqa: BLE001  logged, and told to every caller
            _log.exception("commit failed", operations=len(operations))
            failure = StoreFailed("the database could not commit; nothing was changed")
            failure.__cause__ = error
            for operation in operations:
                operation.refuse(failure)
            self._renew()
        for operation in operations:
            operation.release()

    def _renew(self) -> None:
        """Drops the connection; the next batch opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._engine.dispose()

    def _refuse_waiting(self) -> None:
        while not self._waiting.empty():
            operation = self._waiting.get()
            if operation is not None:
                operation.refuse(Stopping("the server is shutting down"))
                operation.release()
