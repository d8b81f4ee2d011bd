"""Database exercises: SQLite queries over small tables that the item brings along."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

ROWS = (9, 14)
"""Fewest and most rows of a table."""
COPIES = 24
"""Tables of different content for each schema."""


@dataclass(frozen=True)
class Schema:
    """A table's name, its columns, and what its text columns may hold."""

    table: str
    label: str
    category: str
    numbers: tuple[str, str]
    labels: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All column names, in order."""
        return (self.label, self.category, *self.numbers)


_PEOPLE = (
    *("ada", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo"),
    *("ida", "jon", "kim", "leo", "mia", "noah", "olga", "paul"),
)
_TITLES = (
    *("amber", "birch", "cedar", "delta", "ember", "frost", "grove"),
    *("harbor", "iris", "jade", "kite", "lark", "maple", "north"),
)
_CITIES = ("berlin", "lima", "oslo", "rome")
_COLORS = ("black", "blue", "green", "red")
_STYLES = ("crime", "drama", "poetry", "travel")
_ANIMALS = ("bird", "cat", "dog", "horse")

SCHEMAS = (
    Schema("staff", "name", "city", ("age", "pay"), _PEOPLE, _CITIES),
    Schema("books", "title", "genre", ("year", "price"), _TITLES, _STYLES),
    Schema("pets", "name", "kind", ("age", "weight"), _PEOPLE, _ANIMALS),
    Schema("cars", "model", "color", ("year", "price"), _TITLES, _COLORS),
    Schema("shops", "owner", "city", ("size", "sales"), _PEOPLE, _CITIES),
    Schema("games", "title", "genre", ("year", "score"), _TITLES, _STYLES),
)

_ROUND = tuple(str(k) for k in range(20, 90, 5))
"""Numbers to compare with; the tables' own lie between 10 and 99."""

_ROWS_OF = (
    Op("label", ("the {label}", "each {label}"), "{label}"),
    Op("star", ("all columns", "everything"), "*"),
    Op("pair", ("the {label} and {shown}", "{label} with {shown}"), "{label}, {shown}"),
    Op("kind", ("the {label} and {category}",), "{label}, {category}"),
    Op("number", ("the {shown}", "each {shown}"), "{shown}"),
)
_ONE_OF = (
    Op("count", ("how many rows", "the number of rows"), "COUNT(*)"),
    Op("sum", ("the total {shown}", "the sum of {shown}"), "SUM({shown})"),
    Op("avg", ("the average {shown}", "the mean {shown}"), "AVG({shown})"),
    Op("max", ("the largest {shown}", "the maximum {shown}"), "MAX({shown})"),
    Op("min", ("the smallest {shown}", "the minimum {shown}"), "MIN({shown})"),
    Op("distinct", ("the different {category}",), "DISTINCT {category}"),
)
_WHERE = (
    Op("all", ("",), ""),
    Op("is", (" where {category} is {value}",), " WHERE {category} = '{value}'"),
    Op("not", (" where {category} is not {value}",), " WHERE {category} != '{value}'"),
    Op("above", (" with {tested} above {k}",), " WHERE {tested} > {k}", _ROUND),
    Op("below", (" with {tested} below {k}",), " WHERE {tested} < {k}", _ROUND),
    Op(
        "both",
        (" where {category} is {value} and {tested} above {k}",),
        " WHERE {category} = '{value}' AND {tested} > {k}",
        _ROUND,
    ),
    Op(
        "either",
        (" where {category} is {value} or {tested} below {k}",),
        " WHERE {category} = '{value}' OR {tested} < {k}",
        _ROUND,
    ),
)
_ORDER = (
    Op("any", ("",), ""),
    Op("up", (", sorted by {sorted}", ", ordered by {sorted}"), " ORDER BY {sorted}"),
    Op("down", (", highest {sorted} first",), " ORDER BY {sorted} DESC"),
    Op("label", (", sorted by {label}", ", ordered by {label}"), " ORDER BY {label}"),
    Op("low", (", the {k} lowest {sorted}",), " ORDER BY {sorted} LIMIT {k}", integers(2, 5)),
    Op("top", (", the {k} highest {sorted}",), " ORDER BY {sorted} DESC LIMIT {k}", integers(2, 5)),
)
_UNORDERED = _ORDER[:1]
_EACH = (
    Op("counts", ("{category} and number of rows",), "{category}, COUNT(*)"),
    Op("sums", ("{category} and total {shown}",), "{category}, SUM({shown})"),
    Op("avgs", ("{category} and average {shown}",), "{category}, AVG({shown})"),
    Op("maxs", ("{category} and largest {shown}",), "{category}, MAX({shown})"),
    Op("mins", ("{category} and smallest {shown}",), "{category}, MIN({shown})"),
)
_GROUPED = (
    Op("each", (", for each {category}", ", per {category}"), " GROUP BY {category}"),
    Op(
        "often",
        (", per {category} with over {k} rows",),
        " GROUP BY {category} HAVING COUNT(*) > {k}",
        integers(1, 2),
    ),
    Op(
        "sorted",
        (", per {category} in order",),
        " GROUP BY {category} ORDER BY {category}",
    ),
)
SHAPES = (
    (_ROWS_OF, _WHERE, _ORDER),
    (_ROWS_OF, _WHERE, _ORDER),
    (_ONE_OF, _WHERE, _UNORDERED),
    (_EACH, _WHERE, _GROUPED),
)
PROMPT = "Table {table}: {what}{where}{tail}.\n"
ANSWER = "SELECT {what} FROM {table}{where}{tail}"


class Tables:
    """Filled tables to ask about, each with the database that answers golds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._tables: list[tuple[Schema, str, sqlite3.Connection]] = []
        for schema in SCHEMAS:
            for _ in range(COPIES):
                setup = _setup(schema, rng)
                database = sqlite3.connect(":memory:")
                database.executescript(setup)
                self._tables.append((schema, setup, database))

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold query finds nothing."""
        schema, setup, database = pick(rng, self._tables)
        names = {
            "table": schema.table,
            "label": schema.label,
            "category": schema.category,
            "value": pick(rng, schema.categories),
            "shown": pick(rng, schema.numbers),
            "tested": pick(rng, schema.numbers),
            "sorted": pick(rng, schema.numbers),
        }
        ops = [pick(rng, slot) for slot in pick(rng, SHAPES)]
        what, where, tail = (op.draw(rng, **names) for op in ops)
        answer = ANSWER.format(what=what.code, table=schema.table, where=where.code, tail=tail.code)
        rows = database.execute(answer).fetchall()
        if not rows or rows[0][0] is None:
            return None
        return Item(
            group="/".join(("db", *(op.name for op in ops))),
            prompt=PROMPT.format(
                table=schema.table,
                what=what.phrase,
                where=where.phrase,
                tail=tail.phrase,
            ),
            answer=answer,
            check={"setup": setup, "reference": answer, "ordered": "ORDER BY" in tail.code},
        )


def _setup(schema: Schema, rng: np.random.Generator) -> str:
    """Return the statements that make one table; numbers differ, so no order has ties."""
    count = int(rng.integers(ROWS[0], ROWS[1] + 1))
    labels = rng.permutation(len(schema.labels))[:count]
    low, high = (rng.permutation(np.arange(10, 100))[:count] for _ in range(2))
    rows = [
        f"('{schema.labels[i]}', '{pick(rng, schema.categories)}', {low[n]}, {high[n]})"
        for n, i in enumerate(labels)
    ]
    types = ("TEXT", "TEXT", "INTEGER", "INTEGER")
    columns = ", ".join(map(" ".join, zip(schema.columns, types, strict=True)))
    return (
        f"CREATE TABLE {schema.table} ({columns}); "
        f"INSERT INTO {schema.table} VALUES {', '.join(rows)};"
    )
