"""What waits for a batch: small submissions apart from large ones, so that neither starves."""

from collections import deque

from jobengine.store.writing.submissions import Submission

# Submissions a batch, and their weight, in jobs: bounds on what one commit may have to undo
# and hold up. Four bulk calls of 500 jobs still share a commit.
_SUBMISSIONS_MAX = 512
_WEIGHT_MAX = 2048
# Up to this weight a submission goes before the large ones.
_SMALL = 16


class Backlog:
    """Submissions in the order of their arrival. The writer's thread alone touches it."""

    def __init__(self) -> None:
        self._small: deque[Submission] = deque()
        self._large: deque[Submission] = deque()

    def __bool__(self) -> bool:
        return bool(self._small or self._large)

    def add(self, submission: Submission) -> None:
        """Keeps a submission for a batch."""
        (self._small if submission.weight <= _SMALL else self._large).append(submission)

    def take(self) -> deque[Submission]:
        """The next batch: small submissions first, and at least one of the large ones."""
        taken: deque[Submission] = deque()
        weight = 0
        while self._small and len(taken) < _SUBMISSIONS_MAX and weight < _WEIGHT_MAX:
            taken.append(self._small.popleft())
            weight += taken[-1].weight
        one = True
        while self._large and (one or weight + self._large[0].weight <= _WEIGHT_MAX):
            taken.append(self._large.popleft())
            weight += taken[-1].weight
            one = False
        return taken

    def clear(self) -> list[Submission]:
        """Takes all of it."""
        left = [*self._small, *self._large]
        self._small.clear()
        self._large.clear()
        return left
