"""Problems on databases: SELECTs against a reference, and AgentBench's rows and protocol."""

from __future__ import annotations

from qdmerge_llm.tasks.database._engine import Engine, Reply, SQLiteEngine, Table
from qdmerge_llm.tasks.database._mysql import MySQLEngine
from qdmerge_llm.tasks.database._sql import SqlTask
from qdmerge_llm.tasks.database._task import AgentBenchDBTask, parse_turn, parse_values, same_answer

__all__ = [
    "AgentBenchDBTask",
    "Engine",
    "MySQLEngine",
    "Reply",
    "SQLiteEngine",
    "SqlTask",
    "Table",
    "parse_turn",
    "parse_values",
    "same_answer",
]
