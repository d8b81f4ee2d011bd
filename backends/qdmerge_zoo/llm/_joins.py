"""Exercises in joins: SQLite queries over two small tables that the item brings along."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

OWNERS = (4, 6)
"""Fewest and most rows of the first table."""
ROWS = (8, 12)
"""Fewest and most rows of the second table."""
COPIES = 24
"""Tables of different content for each schema."""


@dataclass(frozen=True)
class Schema:
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

SCHEMAS = (
    Schema(
        *("clients", "client", "town", "orders", "client_id", "item", "amount"),
        *(_NAMES, _TOWNS, _GOODS),
    ),
    Schema(
        *("teams", "team", "sport", "players", "team_id", "role", "points"),
        *(_NAMES, _SPORTS, _ROLES),
    ),
    Schema(
        *("hotels", "hotel", "land", "stays", "hotel_id", "guest", "nights"),
        *(_NAMES, _LANDS, _ROLES),
    ),
    Schema(
        *("depots", "depot", "town", "loads", "depot_id", "cargo", "tons"),
        *(_NAMES, _TOWNS, _GOODS),
    ),
)
_ROUND = tuple(str(k) for k in range(20, 90, 5))
"""Numbers to compare with; the tables' own lie between 10 and 99."""

_ROWS_OF = (
    Op("parts", ("{part} and {label}", "each {part} with its {label}"), "{part}, {label}"),
    Op("labels", ("{label} and {number}", "{label} with {number}"), "{label}, {number}"),
    Op("kinds", ("{category} and {part}", "{category} with {part}"), "{category}, {part}"),
    Op("numbers", ("{number} and {category}",), "{number}, {category}"),
)
_EACH = (
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
_WHERE = (
    Op("all", ("",), ""),
    Op("is", (", {category} {value}",), " WHERE {category} = '{value}'"),
    Op("not", (", {category} not {value}",), " WHERE {category} != '{value}'"),
    Op("part", (", {part} {chosen}",), " WHERE {part} = '{chosen}'"),
    Op("above", (", {number} above {k}",), " WHERE {number} > {k}", _ROUND),
    Op("below", (", {number} below {k}",), " WHERE {number} < {k}", _ROUND),
)
_ORDER = (
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
PROMPT = "Join {one}, {many}: {what}{by}{join}{where}{tail}.\n"
ANSWER = "SELECT {what} FROM {one} {join} {many} ON id = {key}{where}{tail}"


class Pairs:
    """Filled pairs of tables to ask about, each with the database that answers golds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._pairs: list[tuple[Schema, str, sqlite3.Connection]] = []
        for schema in SCHEMAS:
            for _ in range(COPIES):
                setup = _setup(schema, rng)
                database = sqlite3.connect(":memory:")
                database.executescript(setup)
                self._pairs.append((schema, setup, database))

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold query finds nothing."""
        schema, setup, database = pick(rng, self._pairs)
        tables = {"one": schema.one, "many": schema.many, "key": schema.key}
        names = tables | {
            "label": schema.label,
            "category": schema.category,
            "part": schema.part,
            "number": schema.number,
            "value": pick(rng, schema.categories),
            "chosen": pick(rng, schema.parts),
        }
        grouped = rng.random() < 0.5
        slots = (
            (_EACH, _BY, _JOIN, _WHERE, _HAVING)
            if grouped
            else (_ROWS_OF, _ROW, _JOIN, _WHERE, _ORDER)
        )
        ops = [pick(rng, slot) for slot in slots]
        by, join, where, tail = (op.name for op in ops[1:])
        if join == "left" and (by == "part" or where != "all" or tail in ("up", "down", "top")):
            return None  # it adds rows of NULLs, which conditions drop and orders put anywhere
        shown, per, joined, kept, last = (op.draw(rng, **names) for op in ops)
        columns = f"{per.code}, {shown.code}" if grouped else shown.code
        group_by = f" GROUP BY {per.code}" if grouped else ""
        answer = ANSWER.format(
            what=columns, join=joined.code, where=kept.code, tail=group_by + last.code, **tables
        )
        rows = database.execute(answer).fetchall()
        ordered = "ORDER BY" in last.code
        if not rows or rows[0][0] is None:
            return None
        return Item(
            group="/".join(("joins", *(op.name for op in ops))),
            prompt=PROMPT.format(
                what=shown.phrase,
                by=per.phrase,
                join=joined.phrase,
                where=kept.phrase,
                tail=last.phrase,
                **tables,
            ),
            answer=answer,
            check={"setup": setup, "reference": answer, "ordered": ordered},
        )


def _setup(schema: Schema, rng: np.random.Generator) -> str:
    """Return the statements that make both tables; numbers differ, so no order has ties.

    The last row of the first table is referred to by none of the second.
    """
    owners = int(rng.integers(OWNERS[0], OWNERS[1] + 1))
    labels = rng.permutation(len(schema.labels))[:owners]
    count = int(rng.integers(ROWS[0], ROWS[1] + 1))
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
