"""Exercises in SQL: SQLite queries over small tables that the item brings along.

- db: one table
- joins: two tables
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

T = TypeVar("T")
_ROWS = (9, 14)
"""Fewest and most rows of a table."""
_COPIES = 24
"""Tables of different content for each schema."""


@dataclass(frozen=True)
class _Table:
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

_TABLES = (
    _Table("staff", "name", "city", ("age", "pay"), _PEOPLE, _CITIES),
    _Table("books", "title", "genre", ("year", "price"), _TITLES, _STYLES),
    _Table("pets", "name", "kind", ("age", "weight"), _PEOPLE, _ANIMALS),
    _Table("cars", "model", "color", ("year", "price"), _TITLES, _COLORS),
    _Table("shops", "owner", "city", ("size", "sales"), _PEOPLE, _CITIES),
    _Table("games", "title", "genre", ("year", "score"), _TITLES, _STYLES),
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
    Op("sorted", (", per {category} in order",), " GROUP BY {category} ORDER BY {category}"),
)
_SHAPES = (
    (_ROWS_OF, _WHERE, _ORDER),
    (_ROWS_OF, _WHERE, _ORDER),
    (_ONE_OF, _WHERE, _UNORDERED),
    (_EACH, _WHERE, _GROUPED),
)
_PROMPT = "Table {table}: {what}{where}{tail}.\n"


def _filled(
    schemas: Sequence[T], create: Callable[[T, np.random.Generator], str], rng: np.random.Generator
) -> list[tuple[T, str, sqlite3.Connection]]:
    """Return several fillings of each schema: the statements, and the database that they make."""
    filled = []
    for schema in schemas:
        for _ in range(_COPIES):
            setup = create(schema, rng)
            database = sqlite3.connect(":memory:")
            database.executescript(setup)
            filled.append((schema, setup, database))
    return filled


class Tables:
    """Filled tables to ask about, each with the database that answers golds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._tables = _filled(_TABLES, _create_table, rng)

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold query finds nothing."""
        schema, setup, database = pick(rng, self._tables)
        names = vars(schema) | {
            "value": pick(rng, schema.categories),
            "shown": pick(rng, schema.numbers),
            "tested": pick(rng, schema.numbers),
            "sorted": pick(rng, schema.numbers),
        }
        ops = [pick(rng, slot) for slot in pick(rng, _SHAPES)]
        what, where, tail = (op.draw(rng, **names) for op in ops)
        answer = f"SELECT {what.code} FROM {schema.table}{where.code}{tail.code}"
        rows = database.execute(answer).fetchall()
        if not rows or rows[0][0] is None:
            return None
        return Item(
            group="/".join(("db", *(op.name for op in ops))),
            prompt=_PROMPT.format(what=what.phrase, where=where.phrase, tail=tail.phrase, **names),
            answer=answer,
            check={"setup": setup, "reference": answer, "ordered": "ORDER BY" in tail.code},
        )


def _create_table(schema: _Table, rng: np.random.Generator) -> str:
    """Return the statements that make one table; numbers differ, so no order has ties."""
    count = int(rng.integers(_ROWS[0], _ROWS[1] + 1))
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


_ONE_ROWS = (4, 6)
"""Fewest and most rows of the first table."""
_MANY_ROWS = (8, 12)
"""Fewest and most rows of the second table."""


@dataclass(frozen=True)
class _Pair:
    """Two tables; ``{one}.id`` is what the column ``key`` of ``many`` refers to."""

    one: str
    label: str
    category: str
    many: str
    key: str
    part: str
    number: str
    labels: tuple[str, ...]
    categories: tuple[str, ...]
    parts: tuple[str, ...]


_NAMES = ("acme", "bolt", "cora", "dune", "echo", "fern", "gale", "hive")
_TOWNS = ("bern", "cork", "lyon", "nice")
_GOODS = ("desk", "lamp", "pen", "rug")
_SPORTS = ("chess", "golf", "judo", "polo")
_LANDS = ("chile", "india", "kenya", "peru")
_ROLES = ("guard", "keeper", "scout", "wing")

_PAIRS = (
    _Pair(
        *("clients", "client", "town", "orders", "client_id", "item", "amount"),
        *(_NAMES, _TOWNS, _GOODS),
    ),
    _Pair(
        *("teams", "team", "sport", "players", "team_id", "role", "points"),
        *(_NAMES, _SPORTS, _ROLES),
    ),
    _Pair(
        *("hotels", "hotel", "land", "stays", "hotel_id", "guest", "nights"),
        *(_NAMES, _LANDS, _ROLES),
    ),
    _Pair(
        *("depots", "depot", "town", "loads", "depot_id", "cargo", "tons"),
        *(_NAMES, _TOWNS, _GOODS),
    ),
)

_JOINED_ROWS = (
    Op("parts", ("{part} and {label}", "each {part} with its {label}"), "{part}, {label}"),
    Op("labels", ("{label} and {number}", "{label} with {number}"), "{label}, {number}"),
    Op("kinds", ("{category} and {part}", "{category} with {part}"), "{category}, {part}"),
    Op("numbers", ("{number} and {category}",), "{number}, {category}"),
)
_JOINED_EACH = (
    Op("count", ("number of {many}", "how many {many}"), "COUNT({key})"),
    Op("sum", ("total {number}", "sum of {number}"), "SUM({number})"),
    Op("avg", ("average {number}", "mean {number}"), "AVG({number})"),
    Op("max", ("largest {number}", "maximum {number}"), "MAX({number})"),
    Op("min", ("smallest {number}", "minimum {number}"), "MIN({number})"),
)
_BY = (
    Op("label", (" per {label}", " of each {label}"), "{label}"),
    Op("category", (" per {category}", " of each {category}"), "{category}"),
    Op("part", (" per {part}", " of each {part}"), "{part}"),
)
_ROW = (Op("row", ("",), ""),)
_JOIN = (
    Op("inner", ("",), "JOIN"),
    Op("left", (", also {one} without {many}", ", even {one} without {many}"), "LEFT JOIN"),
)
_JOINED_WHERE = (
    Op("all", ("",), ""),
    Op("is", (", {category} {value}",), " WHERE {category} = '{value}'"),
    Op("not", (", {category} not {value}",), " WHERE {category} != '{value}'"),
    Op("part", (", {part} {chosen}",), " WHERE {part} = '{chosen}'"),
    Op("above", (", {number} above {k}",), " WHERE {number} > {k}", _ROUND),
    Op("below", (", {number} below {k}",), " WHERE {number} < {k}", _ROUND),
)
_JOINED_ORDER = (
    Op("any", ("",), ""),
    Op("up", (", by {number}", ", sorted by {number}"), " ORDER BY {number}"),
    Op("down", (", highest {number} first",), " ORDER BY {number} DESC"),
    Op("top", (", the {k} highest {number}",), " ORDER BY {number} DESC LIMIT {k}", integers(2, 4)),
)
_HAVING = (
    Op("any", ("",), ""),
    Op("often", (", over {k} {many}",), " HAVING COUNT({key}) > {k}", integers(1, 2)),
    Op("rich", (", total {number} over {k}",), " HAVING SUM({number}) > {k}", ("60", "80", "99")),
)
_JOIN_PROMPT = "Join {one}, {many}: {what}{by}{join}{where}{tail}.\n"
_JOIN_ANSWER = "SELECT {what} FROM {one} {join} {many} ON id = {key}{where}{tail}"


class Pairs:
    """Filled pairs of tables to ask about, each with the database that answers golds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._pairs = _filled(_PAIRS, _create_pair, rng)

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold query finds nothing."""
        schema, setup, database = pick(rng, self._pairs)
        names = vars(schema) | {
            "value": pick(rng, schema.categories),
            "chosen": pick(rng, schema.parts),
        }
        grouped = rng.random() < 0.5
        slots = (
            (_JOINED_EACH, _BY, _JOIN, _JOINED_WHERE, _HAVING)
            if grouped
            else (_JOINED_ROWS, _ROW, _JOIN, _JOINED_WHERE, _JOINED_ORDER)
        )
        ops = [pick(rng, slot) for slot in slots]
        by, join, where, tail = (op.name for op in ops[1:])
        if join == "left" and (by == "part" or where != "all" or tail in ("up", "down", "top")):
            return None  # it adds rows of NULLs, which conditions drop and orders put anywhere
        shown, per, joined, kept, last = (op.draw(rng, **names) for op in ops)
        columns = f"{per.code}, {shown.code}" if grouped else shown.code
        group_by = f" GROUP BY {per.code}" if grouped else ""
        answer = _JOIN_ANSWER.format(
            what=columns, join=joined.code, where=kept.code, tail=group_by + last.code, **names
        )
        rows = database.execute(answer).fetchall()
        ordered = "ORDER BY" in last.code
        if not rows or rows[0][0] is None:
            return None
        return Item(
            group="/".join(("joins", *(op.name for op in ops))),
            prompt=_JOIN_PROMPT.format(
                what=shown.phrase,
                by=per.phrase,
                join=joined.phrase,
                where=kept.phrase,
                tail=last.phrase,
                **names,
            ),
            answer=answer,
            check={"setup": setup, "reference": answer, "ordered": ordered},
        )


def _create_pair(schema: _Pair, rng: np.random.Generator) -> str:
    """Return the statements that make both tables; numbers differ, so no order has ties. The last
    row of the first table is referred to by none of the second.
    """
    owners = int(rng.integers(_ONE_ROWS[0], _ONE_ROWS[1] + 1))
    labels = rng.permutation(len(schema.labels))[:owners]
    count = int(rng.integers(_MANY_ROWS[0], _MANY_ROWS[1] + 1))
    numbers = rng.permutation(np.arange(10, 100))[:count]
    ones = [
        f"({k + 1}, '{schema.labels[i]}', '{pick(rng, schema.categories)}')"
        for k, i in enumerate(labels)
    ]
    many = [
        f"({int(rng.integers(1, owners))}, '{pick(rng, schema.parts)}', {number})"
        for number in numbers
    ]
    return (
        f"CREATE TABLE {schema.one} "
        f"(id INTEGER, {schema.label} TEXT, {schema.category} TEXT); "
        f"INSERT INTO {schema.one} VALUES {', '.join(ones)}; "
        f"CREATE TABLE {schema.many} "
        f"({schema.key} INTEGER, {schema.part} TEXT, {schema.number} INTEGER); "
        f"INSERT INTO {schema.many} VALUES {', '.join(many)};"
    )
