"""YAML without its surprises: numbers in decimal digits, true and false, no key given twice.

YAML 1.1, which PyYAML reads, takes 06010 for 3080, 1:30 for 90, and the name `no` for false.
Here these are texts, as in YAML 1.2, so that whoever expects a number refuses them.
"""

import re
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

import yaml

from jobengine.domain.errors import ConfigRefused

# What each plain scalar is, unless it is a text, and the characters that it may begin with.
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SCALARS = (
    (f"{_TAG}null", "~|null|Null|NULL|", ("~", "n", "N", "")),
    (f"{_TAG}bool", "true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    (f"{_TAG}int", "[-+]?(0|[1-9][0-9]*)", tuple("-+0123456789")),
    (f"{_TAG}float", r"[-+]?[0-9]+\.[0-9]+", tuple("-+0123456789")),
    (_MERGE, "<<", ("<",)),
)
# How deep keys are given their lines, and how many: a few aliases to aliases make billions.
_DEPTH, _LINES_MAX = 4, 100_000
_NOT_SPACES = {
    "\t": "a tab",
    "\u00a0": "a no-break space (U+00A0)",
    "\u2007": "a figure space (U+2007)",
    "\u202f": "a narrow no-break space (U+202F)",
    "\u3000": "an ideographic space (U+3000)",
    "\u200b": "a zero width space (U+200B)",
    "\ufeff": "a byte order mark (U+FEFF)",
}
_ALIAS = '* begins an alias in YAML: put it in quotes, as in ["*"]'

# libyaml's where PyYAML has it, as its wheels do: much faster.
if TYPE_CHECKING:
    _Safe = yaml.SafeLoader
else:
    _Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    """A SafeLoader that notes each key given twice, of which YAML would drop one."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  as PyYAML declares it

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[str] = []
        self._looked_at: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping; only before the first time are its keys the file's own."""
        if id(node) not in self._looked_at:
            self._looked_at.add(id(node))
            self._look_for_twins(node)
        super().flatten_mapping(node)

    def _look_for_twins(self, node: yaml.MappingNode) -> None:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self._key(key_node)
            mark = key_node.start_mark
            if key in seen:
                self.mistakes.append(
                    f"line {mark.line + 1}, column {mark.column + 1}: the key {key!r} is given "
                    f"twice, first in line {seen[key]}"
                )
            elif key is not None:
                seen[key] = mark.line + 1

    def _key(self, node: yaml.Node) -> Hashable | None:
        """The key; None for what is none: a merge, or what is refused by its place in a moment."""
        if node.tag == _MERGE:
            return None
        key = self.construct_object(node, deep=True)
        return key if isinstance(key, Hashable) else None


for _tag, _expression, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_expression})\\Z"), list(_first))


def load(text: str, source: str) -> tuple[Any, list[str]]:
    """What the text says, and each mistake in it that does not keep it from being read.

    Raises ConfigRefused where it cannot be read; `source` names the text.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data(), loader.mistakes
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigRefused(source, [_mistake(error, text), *odd_spaces(text)]) from error


def lines(text: str) -> dict[str, int]:
    """In which line each key of a text that can be read is, by its place, such as `a.b[0]`."""
    root = yaml.compose(text, Loader=_Loader)
    found: dict[str, int] = {}
    for place, line in () if root is None else _places("", root, _DEPTH):
        if len(found) == _LINES_MAX:
            break
        found.setdefault(place, line)
    return found


def odd_spaces(text: str) -> list[str]:
    """Each line with a space, outside of comments, that YAML does not take for one."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        code = re.sub(r"(^|\s)#.*", "", line)
        for at, character in enumerate(code):
            if character in _NOT_SPACES and (character != "\t" or not code[:at].strip()):
                what = _NOT_SPACES[character]
                found.append(f"line {number}, column {at + 1}: {what}: expected a space")
                break
    return found


def _places(place: str, node: yaml.Node, depth: int) -> Iterator[tuple[str, int]]:
    if not depth:
        return
    if isinstance(node, yaml.MappingNode):
        below = [(f"{place}.{key.value}".lstrip("."), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        below = [(f"{place}[{index}]", value, value) for index, value in enumerate(node.value)]
    else:
        return
    for inner, at, value in below:
        yield inner, at.start_mark.line + 1
        yield from _places(inner, value, depth - 1)


def _mistake(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {_problem(error, mark, text)}"
    return f"it is not YAML: {str(error).splitlines()[0]}"


def _problem(error: yaml.MarkedYAMLError, mark: yaml.Mark, text: str) -> str:
    """What is wrong there, in words that say what to do where that is known."""
    problem = str(error.problem)
    if "alias" in f"{error.context} {problem}":
        return f"{_ALIAS} ({problem})"
    line = text.split("\n")[mark.line] if mark.line <= text.count("\n") else ""
    character = line[mark.column : mark.column + 1]
    if problem == "found character that cannot start any token" and character != "\t":
        return f"{problem}: put what begins with {character} in quotes"
    return problem
