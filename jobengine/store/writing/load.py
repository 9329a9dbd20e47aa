"""How busy the writer is."""

from jobengine.domain.durations import Histogram

_BATCH = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_COMMIT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class WriterLoad:
    """What the writer has committed since its start: operations a batch, seconds a commit.

    The writer's thread counts; any may read.
    """

    def __init__(self) -> None:
        self.batches = Histogram(_BATCH)
        self.commits = Histogram(_COMMIT)

    def committed(self, operations: int, seconds: float) -> None:
        """Counts a batch."""
        self.batches.observe(operations)
        self.commits.observe(seconds)
