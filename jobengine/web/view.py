"""The view of the page of jobs: its filters, as its address has them."""

import re

import msgspec

from jobengine.domain.errors import InvalidInput
from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN, State
from jobengine.engine.views import Filter, Order, place_in
from jobengine.web.forms import Form, mistake
from jobengine.web.render import url

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_PRIORITIES = re.compile(r"([0-9]{1,3})(?:\s*-\s*([0-9]{1,3}))?")
_TEXT_MAX = 1_000


class View(msgspec.Struct, frozen=True):
    """What is looked at: each filter as it was typed, nothing where it was not."""

    queue: str
    state: str = ""
    priority: str = ""
    older: str = ""
    newer: str = ""
    contains: str = ""
    order: str = ""
    after: str = ""

    def filter(self) -> Filter:
        """The filters. Raises InvalidInput."""
        highest, lowest = _priorities(self.priority)
        return Filter(
            _state(self.state),
            highest,
            lowest,
            _span("older", self.older),
            _span("newer", self.newer),
        )

    def how(self) -> Order:
        """The order. Raises InvalidInput."""
        try:
            return Order(self.order or "queue")
        except ValueError:
            raise mistake("order", "one of queue, newest, oldest") from None

    def address(self, **other: str) -> str:
        """The address of this view, or of one that differs; from its first page on."""
        changed = msgspec.structs.replace(self, **{"after": "", **other})
        return url("/jobs", **msgspec.structs.asdict(changed))

    def fields(self) -> dict[str, str]:
        """What a form must send for this view, but for its page."""
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if value and name != "after"}

    @property
    def narrowed(self) -> bool:
        """Whether it shows a part of the queue alone."""
        return bool(self.fields().keys() - {"queue", "order"})


def view_in(form: Form) -> View:
    """The view that a query or a form says."""
    given = {name: form.text(name).strip() for name in View.__struct_fields__}
    if len(given["contains"]) > _TEXT_MAX:
        raise mistake("contains", f"a text of at most {_TEXT_MAX} characters")
    if given["after"] and place_in(given["after"]) is None:
        raise mistake("after", "the end of an earlier page")
    return View(**given)


def _state(text: str) -> State | None:
    try:
        return State(text) if text else None
    except ValueError:
        raise mistake("state", f"one of {', '.join(state.value for state in State)}") from None


def _priorities(text: str) -> tuple[int, int]:
    """The highest and the lowest priority: `80`, or `50-100`."""
    if not text:
        return PRIORITY_MAX, PRIORITY_MIN
    found = _PRIORITIES.fullmatch(text)
    if found is not None:
        ends = sorted((int(found[1]), int(found[2] or found[1])), reverse=True)
        if ends[0] <= PRIORITY_MAX and ends[1] >= PRIORITY_MIN:
            return ends[0], ends[1]
    raise _expected_priorities()


def _expected_priorities() -> InvalidInput:
    return mistake("priority", f"one from {PRIORITY_MIN} to {PRIORITY_MAX}, or two: 50-100")


def _span(name: str, text: str) -> int | None:
    """A span of time in seconds: 90s, 15m, 2h, 3d, 1w."""
    if not text:
        return None
    found = _SPAN.fullmatch(text)
    if found is None:
        raise mistake(name, "a span of time such as 90s, 15m, 2h, 3d or 1w")
    return int(found[1]) * _SECONDS[found[2]]
