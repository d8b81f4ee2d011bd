"""Databases of problems: the tables, what an engine does, and SQLite in the sandbox."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import qdmerge_llm.tasks.database._program as _program
from qdmerge.errors import EvaluationError
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._executed import Program, run_batch
from qdmerge_llm.tasks.database._dialect import in_sqlite

Types = Literal["text", "numeric"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_REAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_NUMERIC_TYPES = re.compile(r"(tiny|small|medium|big)?int|integer|float|double|real|dec|num", re.I)


@dataclass(frozen=True)
class Table:
    """A problem's table.

    Attributes:
        name: Its name.
        columns: Pairs of name and type, which is "TEXT", "INTEGER" or "REAL".
        rows: The rows; cells are text, numbers or None.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, item: Mapping[str, Any], types: Types) -> Table:
        """Return the table of an item.

        Args:
            item: A row of the benchmark.
            types: "text" gives all columns the type TEXT, as the original does; "numeric" gives
                columns of plain numbers a number's type. Where a column has no contents, its
                declared type decides.
        """
        info = item["table"]["table_info"]
        rows = [[_cell(value) for value in row] for row in info["rows"]]
        columns = []
        for k, column in enumerate(info["columns"]):
            cells = [row[k] for row in rows]
            kind = "TEXT" if types == "text" else _type(cells, str(column.get("type", "")))
            columns.append((_name(column["name"], k), kind))
            if kind != "TEXT":
                for row in rows:
                    row[k] = None if row[k] == "" else row[k]
        return cls(item["table"]["table_name"], tuple(columns), tuple(map(tuple, rows)))


def _name(name: str, k: int) -> str:
    """Return a column's name as MySQL takes it: not blank, and no blanks at its end."""
    return name.rstrip() or f"column_{k + 1}"


def _cell(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _type(cells: Sequence[Any], declared: str) -> str:
    texts = [str(cell) for cell in cells if cell is not None and cell != ""]
    if not texts:
        return "REAL" if _NUMERIC_TYPES.match(declared) else "TEXT"
    if all(map(_INTEGER.fullmatch, texts)):
        return "INTEGER"
    return "REAL" if all(map(_REAL.fullmatch, texts)) else "TEXT"


@dataclass(frozen=True)
class Reply:
    """What came of a statement: text for the model, and whether it was no error."""

    text: str
    ok: bool


class UnfitTableError(EvaluationError):
    """A table that an engine cannot hold."""


class Engine(ABC):
    """Databases for problems: each has one of its own, which no other sees.

    Statements come from models. An engine bounds what one may take in time and size, and answers
    with an error where that is passed. Where the engine itself is gone, all but :meth:`close` raise
    an EvaluationError: it is no answer.
    """

    @abstractmethod
    def open(self, table: Table) -> Any:
        """Return a new database that holds the table: its session.

        Raises:
            UnfitTableError: It cannot be held.
        """

    @abstractmethod
    def execute(self, orders: Sequence[tuple[Any, str]]) -> list[Reply]:
        """Execute a statement in each of some sessions; what it changed stays.

        Args:
            orders: Pairs of session and statement, no session twice.
        """

    @abstractmethod
    def contents(self, sessions: Sequence[Any]) -> list[str | None]:
        """Return for each session a hash of its table's rows in any order, a blank, and the hash of
        AgentBench (``answer_md5``); None if the table is unreadable.
        """

    @abstractmethod
    def close(self, session: Any) -> None:
        """End a session and drop its database."""


_PROGRAM = Program.of(_program.__file__, "sqlite")
_SECONDS = 15.0
_CPU_SECONDS = 4
_READS = re.compile(r"SELECT\b", re.IGNORECASE)
_STOPPED = Reply("Error: stopped, it took too long or too much", False)


@dataclass
class _Session:
    table: Table
    statements: list[str] = field(default_factory=list)


class SQLiteEngine(Engine):
    """Databases in memory, of processes in the sandbox.

    A session is its table and the statements so far but for SELECTs; each round goes through them
    again, those of all episodes in one sandbox. So nothing is kept between the rounds that could
    leak or hang, and no statement reaches a file, another database or an extension.

    Args:
        sandbox: Where statements are executed.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def open(self, table: Table) -> _Session:
        """Return a new session."""
        return _Session(table)

    def execute(self, orders: Sequence[tuple[_Session, str]]) -> list[Reply]:
        """Execute a statement in each session."""
        found: dict[int, Reply] = {}
        read: dict[int, str] = {}
        for k, (_, statement) in enumerate(orders):
            try:
                read[k] = in_sqlite(statement)
            except ValueError as error:
                found[k] = Reply(_program.cut(f"Error: {error}"), False)
        asked = [(orders[k][0], [statement]) for k, statement in read.items()]
        for (k, statement), reply in zip(read.items(), self._run(asked, False), strict=True):
            found[k] = reply
            if reply is not _STOPPED and not _READS.match(statement):
                orders[k][0].statements.append(statement)
        return [found[k] for k in range(len(orders))]

    def contents(self, sessions: Sequence[_Session]) -> list[str | None]:
        """Return hashes of the sessions' tables."""
        replies = self._run([(session, []) for session in sessions], True)
        return [reply.text if reply.ok else None for reply in replies]

    def close(self, session: _Session) -> None:
        """Do nothing: a session holds no resources."""

    def _run(self, orders: Sequence[tuple[_Session, list[str]]], contents: bool) -> list[Reply]:
        payloads: list[dict[str, Any]] = [
            {
                "table": asdict(session.table),
                "statements": session.statements + statements,
                "contents": contents,
            }
            for session, statements in orders
        ]
        outputs = run_batch(self._sandbox, _PROGRAM, payloads, _SECONDS, _CPU_SECONDS)
        found = []
        for output in outputs:
            if output.ended and output.status == 0:
                reply = json.loads(output.text)
                found.append(Reply(reply["text"], reply["ok"]))
            else:
                found.append(_STOPPED)
        return found
