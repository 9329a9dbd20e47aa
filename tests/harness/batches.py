"""Has a writer take several submissions in one batch."""

import threading
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from jobengine.store.writing.operations import Operation, Task
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.writer import Writer


def submit_together(writer: Writer, *submissions: Sequence[Operation[Any]]) -> None:
    """Submits them while the writer is busy, and waits until all are answered."""
    busy, free = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        busy.set()
        free.wait()

    holder = threading.Thread(target=lambda: writer.submit(Task(hold)))
    holder.start()
    busy.wait()
    made = [Submission(operations) for operations in submissions]
    for submission in made:
        writer._arrived.put(submission)
    free.set()
    for submission in made:
        submission.latch.wait()
    holder.join()
