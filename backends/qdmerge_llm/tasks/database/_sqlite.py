"""SQLite, inside the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._batch import run_batch
from qdmerge_llm.tasks.database._engine import Engine, Reply, Table
from qdmerge_llm.tasks.database._program import uncommented

_PROGRAM = Path(__file__).with_name("_program.py").read_text(encoding="utf-8")
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
        """A new session."""
        return _Session(table)

    def execute(self, orders: Sequence[tuple[_Session, str]]) -> list[Reply]:
        """Executes a statement in each session."""
        replies = self._run([(session, [statement]) for session, statement in orders], False)
        for (session, statement), reply in zip(orders, replies, strict=True):
            if reply is not _STOPPED and not _READS.match(uncommented(statement)):
                session.statements.append(statement)
        return replies

    def contents(self, sessions: Sequence[_Session]) -> list[str | None]:
        """Hashes of the sessions' tables."""
        replies = self._run([(session, []) for session in sessions], True)
        return [reply.text if reply.ok else None for reply in replies]

    def close(self, session: _Session) -> None:
        """There is nothing to give up."""

    def _run(self, orders: Sequence[tuple[_Session, list[str]]], contents: bool) -> list[Reply]:
        payloads: list[dict[str, Any]] = [
            {
                "table": asdict(session.table),
                "statements": session.statements + statements,
                "contents": contents,
            }
            for session, statements in orders
        ]
        outputs = run_batch(self._sandbox, "sqlite", payloads, _SECONDS, _CPU_SECONDS, _PROGRAM)
        found = []
        for output in outputs:
            if output.ended and output.status == 0:
                reply = json.loads(output.text)
                found.append(Reply(reply["text"], reply["ok"]))
            else:
                found.append(_STOPPED)
        return found
