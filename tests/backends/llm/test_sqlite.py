from __future__ import annotations

import pytest

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks.database import SQLiteEngine, Table


def test_what_kills_a_process_in_the_sandbox_fails_alone(sandbox: Sandbox) -> None:
    engine = SQLiteEngine(sandbox)
    sessions = [engine.open(Table("t", (("a", "TEXT"),), (("x",),))) for _ in range(2)]
    endless = "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' REGEXP '(a+)+$'"
    replies = engine.execute([(sessions[0], endless), (sessions[1], "SELECT a FROM t")])
    assert [reply.ok for reply in replies] == [False, True]
    assert engine.execute([(sessions[0], "SELECT 1")])[0].ok, "it stays out of later rounds"


def test_no_statement_comes_out_differently_when_it_is_repeated(sandbox: Sandbox) -> None:
    engine = SQLiteEngine(sandbox)
    session = engine.open(Table("t", (("a", "TEXT"),), ()))
    assert not engine.execute([(session, "INSERT INTO t VALUES (random())")])[0].ok
    assert engine.execute([(session, "BEGIN")])[0].ok
    engine.execute([(session, "INSERT INTO t VALUES ('x')")])
    assert engine.execute([(session, "SELECT a FROM t")])[0].text == "[('x',)]"
    engine.execute([(session, "ROLLBACK")])
    assert engine.execute([(session, "SELECT a FROM t")])[0].text == "[]"


@pytest.mark.parametrize(
    "value",
    [
        "CURRENT_DATE",
        "CURRENT_TIME",
        "current_timestamp",
        "date('now')",
        "date(CONCAT('n', 'ow'), '+1 day')",
        "datetime()",
        "time('NOW')",
        "julianday('now')",
        "unixepoch('now')",
        "strftime('%Y', 'now')",
        "strftime('%s')",
        "datetime('2020-03-04', 'localtime')",
        "random()",
        "randomblob(4)",
    ],
)
def test_nothing_depends_on_when_it_runs(sandbox: Sandbox, value: str) -> None:
    engine = SQLiteEngine(sandbox)
    session = engine.open(Table("t", (("a", "TEXT"),), (("2020-03-04",),)))
    said = "Error: the present time and random values are not known here"
    for statement in (f"SELECT {value}", f"UPDATE t SET a = {value}"):
        assert engine.execute([(session, statement)])[0].text == said
    engine.execute([(session, f"CREATE TABLE u (a, b DEFAULT ({value}))")])
    assert engine.execute([(session, "INSERT INTO u (a) VALUES (1)")])[0].text == said


def test_dates_of_the_table_can_be_reckoned_with(sandbox: Sandbox) -> None:
    engine = SQLiteEngine(sandbox)
    session = engine.open(Table("t", (("a", "TEXT"),), (("2020-03-04",),)))
    asked = "date(a, '+1 month'), strftime('%Y', a), julianday(a) - julianday('2020-03-01')"
    told = engine.execute([(session, f"SELECT {asked}, date('x') FROM t")])[0].text
    assert told == "[('2020-04-04', '2020', 3.0, None)]"
    assert "Error: " in engine.execute([(session, "SELECT a REGEXP '(' FROM t")])[0].text
