"""Plots, drawn here as SVG: lines alone, whose words and numbers stand beside them as text."""

import json
from collections.abc import Mapping, Sequence

import msgspec
from markupsafe import Markup

from jobengine.web import words

# The space that a line is drawn in; the page stretches it.
_WIDTH, _HEIGHT = 600.0, 160.0
# Above the highest point, so that its stroke is not cut.
_ROOM = 4.0
_SPARK_WIDTH, _SPARK_HEIGHT = 120.0, 24.0

Values = Sequence[float | None]


class Plot(msgspec.Struct, frozen=True):
    """A plot: its title, its lines by name, and what its numbers are.

    `times` are the beginnings of its steps, in seconds since the Unix epoch. `seconds` says
    that the numbers are spans of time; else they are counts.
    """

    title: str
    times: Sequence[int]
    lines: Mapping[str, Values]
    seconds: bool = False

    @property
    def most(self) -> float:
        """The highest number, at least 1."""
        return max([1.0, *(v for values in self.lines.values() for v in values if v is not None)])

    def text(self, value: float | None) -> str:
        """A number of it in words."""
        if self.seconds:
            return words.age(value)
        return "–" if value is None else words.number(round(value))

    def last(self, name: str) -> str:
        """The line's last number in words."""
        known = [value for value in self.lines[name] if value is not None]
        return self.text(known[-1] if known else None)

    def total(self, name: str) -> str:
        """The sum of the line's numbers in words."""
        return self.text(sum(value or 0 for value in self.lines[name]))

    @property
    def drawing(self) -> Markup:
        """The lines as SVG, hidden from who hears the page, who has the numbers as text."""
        drawn = Markup("").join(
            line
            for name, values in self.lines.items()
            for line in _lines(name, values, self.most, (_WIDTH, _HEIGHT))
        )
        return Markup(
            '<svg class="plot" viewBox="0 0 600 160" preserveAspectRatio="none" aria-hidden="true">'
            '<line class="axis" x1="0" x2="600" y1="159.5" y2="159.5"/>'
            '<line class="axis" x1="0" x2="600" y1="4" y2="4"/>{}</svg>'
        ).format(drawn)

    @property
    def data(self) -> str:
        """Its numbers as JSON, for the script that shows them under the pointer."""
        shown = {name: [self.text(v) for v in values] for name, values in self.lines.items()}
        return json.dumps({"times": list(self.times), "lines": shown})


def spark(lines: Mapping[str, Values], label: str) -> Markup:
    """A small plot without numbers; `label` is what it says."""
    most = max([1.0, *(v for values in lines.values() for v in values if v is not None)])
    drawn = Markup("").join(
        line
        for name, values in lines.items()
        for line in _lines(name, values, most, (_SPARK_WIDTH, _SPARK_HEIGHT))
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 120 24" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(label, drawn)


def _lines(name: str, values: Values, most: float, size: tuple[float, float]) -> list[Markup]:
    """The line, in parts where numbers are missing; none where all are 0, which says nothing."""
    if not any(values):
        return []
    width, height = size
    step = width / max(1, len(values) - 1)
    parts: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            y = height - 1 - value / most * (height - _ROOM - 1)
            parts[-1].append(f"{index * step:.1f},{y:.1f}")
    return [
        # One number alone is a short stroke: a line needs two ends.
        Markup('<polyline class="{}" points="{}"/>').format(name, " ".join(_at_least_two(part)))
        for part in parts
        if part
    ]


def _at_least_two(points: list[str]) -> list[str]:
    if len(points) > 1:
        return points
    x, _, y = points[0].partition(",")
    return [f"{float(x) - 3:.1f},{y}", f"{float(x) + 3:.1f},{y}"]
