"""Statements compiled once, and run on the driver's own cursor.

SQLAlchemy's work at each execution (cache keys, contexts, bind and result processors)
takes longer than SQLite does. Here it writes the SQL, once for each engine, and the
driver runs it; parameters and rows are what the driver takes and gives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Dialect, bindparam

# SQLite takes 32,766 parameters by default, some builds 999.
_PART = 512


class Prepared:
    """A statement with named parameters; `order` is that of the tuples that `many` takes."""

    def __init__(self, statement: Any, order: Sequence[str] = ()) -> None:
        self.statement = statement
        self._order = order
        self._compiled: dict[str, tuple[str, list[tuple[str, Any]]]] = {}

    def cursor(self, connection: Connection, binds: Mapping[str, Any]) -> closing[Any]:
        """Runs it; a cursor over the rows that it gives, to be closed."""
        text, names = self._text(connection.dialect)
        cursor = connection.connection.cursor()
        cursor.execute(text, [binds.get(name, fixed) for name, fixed in names])
        return closing(cursor)

    def value(self, connection: Connection, binds: Mapping[str, Any]) -> Any:
        """Runs it; the value in the one row that it gives."""
        with self.cursor(connection, binds) as cursor:
            return cursor.fetchone()[0]

    def many(self, connection: Connection, binds: Sequence[tuple[Any, ...]]) -> int:
        """Runs it once for each tuple of its parameters; the number of rows touched."""
        text, names = self._text(connection.dialect)
        if [name for name, _ in names] != list(self._order):
            raise TypeError(f"the parameters of {text} are not {self._order}")
        with _cursor(connection) as cursor:
            cursor.executemany(text, binds)
            return int(cursor.rowcount)

    def _text(self, dialect: Dialect) -> tuple[str, list[tuple[str, Any]]]:
        made = self._compiled.get(dialect.name)
        if made is None:
            compiled = self.statement.compile(dialect=dialect)
            made = str(compiled), [(n, compiled.params[n]) for n in compiled.positiontup]
            self._compiled[dialect.name] = made
        return made


class PreparedList:
    """A statement over a list of ids or uids (… IN …), with other values before it."""

    def __init__(self, build: Callable[[Sequence[Any]], Any], order: Sequence[str] = ()) -> None:
        """`build` makes the statement from as many parameters as the list has values.

        `order` names the statement's other parameters, which must come first.
        """
        self._build = build
        self._order = order
        self._texts: dict[tuple[str, int], str] = {}

    def rows(self, connection: Connection, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Runs it; all the rows that it gives."""
        rows: list[tuple[Any, ...]] = []
        for part in _parts(values):
            with _cursor(connection) as cursor:
                cursor.execute(*self._call(connection.dialect, (), part))
                rows += cursor.fetchall()
        return rows

    def count(
        self, connection: Connection, values: Sequence[Any], others: tuple[Any, ...] = ()
    ) -> int:
        """Runs it, with the other values in their order; the number of rows touched."""
        touched = 0
        for part in _parts(values):
            with _cursor(connection) as cursor:
                cursor.execute(*self._call(connection.dialect, others, part))
                touched += int(cursor.rowcount)
        return touched

    def statement(self, values: int) -> Any:
        """The statement for a list of that many values."""
        return self._build([bindparam(f"value_{index}") for index in range(values)])

    def _call(
        self, dialect: Dialect, others: tuple[Any, ...], values: Sequence[Any]
    ) -> tuple[str, tuple[Any, ...]]:
        # Filled up with its last value to a power of two, so that a few texts do for all.
        size = 1 << (len(values) - 1).bit_length()
        filled = (*others, *values, *[values[-1]] * (size - len(values)))
        return self._text(dialect, size), filled

    def _text(self, dialect: Dialect, size: int) -> str:
        text = self._texts.get((dialect.name, size))
        if text is None:
            compiled = self.statement(size).compile(dialect=dialect)
            text, names = str(compiled), list(compiled.positiontup)
            if names[: len(self._order)] != list(self._order) or len(names) != size + len(
                self._order
            ):
                raise TypeError(f"the parameters of {text} do not begin with {self._order}")
            self._texts[dialect.name, size] = text
        return text


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The list in parts that every build of SQLite takes as parameters of one statement."""
    for at in range(0, len(values), _PART):
        yield values[at : at + _PART]


def _cursor(connection: Connection) -> closing[Any]:
    """A cursor that is closed at once.

    An error's traceback would keep it alive, with its statement open, beyond the life
    of its connection: sqlcipher3 crashes on that.
    """
    return closing(connection.connection.cursor())
