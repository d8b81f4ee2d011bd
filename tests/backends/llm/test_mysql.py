from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from qdmerge.errors import ConfigError, EvaluationError
from qdmerge_llm.tasks import KINDS
from qdmerge_llm.tasks.database import MySQLEngine, Table, _mysql
from qdmerge_llm.tasks.database._engine import UnfitTableError
from tests.backends.llm import mariadb

TABLE = Table("t", (("a", "TEXT"),), (("x",),))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    reason = mariadb.missing()
    if reason:
        pytest.skip(reason)
    with mariadb.server() as url:
        yield url


def databases(url: str) -> list[str]:
    engine = MySQLEngine(url)
    return [name for (name,) in engine._admin(r"SHOW DATABASES LIKE 'qdmerge\_%'")]


def test_databases_are_dropped(url: str) -> None:
    engine = MySQLEngine(url)
    session = engine.open(TABLE)
    assert databases(url) == [session.database]
    engine.close(session)
    engine.close(session)
    assert databases(url) == []
    with pytest.raises(EvaluationError, match="cannot hold table 't'"):
        engine.open(Table("t", (("a", "TEXT"), ("A", "TEXT")), ()))
    assert databases(url) == []


LEAVING = {
    "end": "pass",
    "error": "raise SystemExit(3)",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("way", LEAVING)
def test_nothing_stays_of_a_process_that_leaves(url: str, way: str) -> None:
    other = MySQLEngine(url)
    kept = other.open(TABLE)
    script = (
        "from qdmerge_llm.tasks.database import MySQLEngine, Table\n"
        f"print(MySQLEngine({url!r}).open({TABLE!r}).database, flush=True)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script + LEAVING[way]], capture_output=True, text=True, timeout=300
    )
    assert process.stdout.startswith("qdmerge_"), process.stderr
    assert process.returncode == {"end": 0, "error": 3, "kill": -signal.SIGKILL}[way]
    assert databases(url) == [kept.database], "another's that is alive stays, too"
    other.close(kept)


def test_a_fork_has_databases_of_its_own(url: str) -> None:
    engine = MySQLEngine(url)
    mine = engine.open(TABLE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session = engine.open(TABLE)
            same = engine.contents([session]) == engine.contents([mine])
            engine.close(session)
            os.write(writer, f"{session.database} {same}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    name, same = os.read(reader, 1000).decode().split()
    os.close(reader)
    os.close(writer)
    assert same == "True"
    assert name.split("_")[1] != mine.database.split("_")[1]
    assert engine.contents([mine]) != [None]
    engine.close(mine)


def test_a_connection_that_the_server_ended(url: str) -> None:
    engine = MySQLEngine(url)
    first = engine.open(TABLE)
    killer = MySQLEngine(url)
    killer._admin(f"KILL {engine._connection.thread_id()}")
    second = engine.open(TABLE)
    assert databases(url) == [first.database, second.database]
    for session in (first, second):
        engine.close(session)
    assert databases(url) == []


def test_a_server_that_is_gone_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymysql")
    monkeypatch.setattr(MySQLEngine, "_sweep", lambda engine: None)
    engine = MySQLEngine("mysql://user@127.0.0.1:1/")
    session = _mysql._Session("qdmerge_0_1", TABLE)
    for ask in (
        lambda: engine.open(TABLE),
        lambda: engine.execute([(session, "SELECT a FROM t")]),
        lambda: engine.contents([session]),
    ):
        with pytest.raises(EvaluationError, match="server cannot be reached: 2003: ") as caught:
            ask()
        assert not isinstance(caught.value, UnfitTableError)
    engine.close(session)


def test_a_connection_that_ends_in_the_middle_is_no_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mysql, "_BOUND", "max_statement_time = 0")
    engine, killer = MySQLEngine(url), MySQLEngine(url)
    session = engine.open(TABLE)

    def kill() -> None:
        for _ in range(200):
            for thread, *line in killer._admin("SHOW PROCESSLIST"):
                if "SLEEP" in str(line):
                    killer._stop(thread)
                    return
            time.sleep(0.05)

    with ThreadPoolExecutor() as pool:
        pool.submit(kill)
        with pytest.raises(EvaluationError, match="server cannot be reached: "):
            engine.execute([(session, "SELECT SLEEP(15)")])
    assert engine.execute([(session, "SELECT a FROM t")])[0].ok
    engine.close(session)


def test_a_server_that_does_not_stop_a_statement_in_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mysql, "_BOUND", "max_statement_time = 0")
    monkeypatch.setattr(_mysql, "_READ_SECONDS", 1)
    engine = MySQLEngine(url)
    session = engine.open(TABLE)
    reply = engine.execute([(session, "SELECT SLEEP(60)")])[0]
    assert not reply.ok
    going = [line for line in engine._admin("SHOW PROCESSLIST") if "SLEEP" in str(line)]
    assert all("Killed" in line for line in going)
    engine.close(session)


def test_statements_reach_no_other_database(url: str) -> None:
    engine = MySQLEngine(url)
    first, second = engine.open(TABLE), engine.open(TABLE)
    for statement in (
        f"DROP TABLE {first.database}.t",
        f"DELETE FROM `{first.database}`.`t`",
        f"INSERT INTO {first.database.upper()}.t VALUES (1)",
        f"DROP DATABASE {first.database}",
        f"USE {first.database}",
        "CREATE PROCEDURE p() DELETE FROM t",
        "BEGIN NOT ATOMIC DELETE FROM t; END",
        "SET STATEMENT max_statement_time = 0 FOR DELETE FROM t",
    ):
        assert not engine.execute([(second, statement)])[0].ok, statement
    assert engine.contents([first]) == engine.contents([second])
    for session in (first, second):
        engine.close(session)


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://host/",
        "mysql://user@host/database",
        "mysql://user@host:port/",
        "mysql://user@host:99999/",
        "mysql://user@host:0/",
        "mysql://user@host/#x",
        "mysql://user@/",
        "mysql://user@[::1/",
        "mysql://user:se/cret@host/",
        "mysql://user@host/?sslmode=x",
        "mysql://user:secret@host/",
        "mysql://user:@host/",
    ],
)
def test_urls_of_wrong_form_and_passwords_are_refused_before_connecting(wrong: str) -> None:
    pytest.importorskip("pymysql")
    said = "MYSQL_PWD" if ":secret@" in wrong or ":@" in wrong else "mysql://user@host:port/"
    with pytest.raises(ConfigError, match=said) as caught:
        MySQLEngine(wrong)
    (line,) = KINDS.problems("agentbench_db", {"engine": wrong})
    assert line == f"task kind 'agentbench_db': 'engine': {caught.value}"
    assert "cret" not in line


def test_servers_that_refuse(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MySQLEngine(url).open(TABLE)
    with pytest.raises(ConfigError, match="the database server refuses"):
        MySQLEngine("mysql://user@127.0.0.1:1/")
    monkeypatch.setenv("MYSQL_PWD", "wrong")
    with pytest.raises(ConfigError, match="the database server refuses"):
        MySQLEngine(url)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(ConfigError, match=r"pip install 'qdmerge\[mysql\]'"):
        MySQLEngine("mysql://user@host/")
    (line,) = KINDS.problems("agentbench_db", {"engine": "mysql://user@host/"})
    assert "pip install 'qdmerge[mysql]'" in line


def test_comments_before_a_statement(url: str) -> None:
    engine = MySQLEngine(url)
    session = engine.open(TABLE)
    for comment in ("-- look\n", "# look\n", "/* look */ ", " /* a */\n--\n/**/", "--\tx\n"):
        reply = engine.execute([(session, f"{comment}SELECT a FROM t")])[0]
        assert reply.text == "[('x',)]", comment
    for hidden in (
        "/*! SET @a := */ (SELECT 1)",
        "/*M! SET @a := */ (SELECT 1)",
        "-- look\nUSE mysql",
        "/* look */ SET @a := 1",
        "--1\nSELECT 1",
        "/* SELECT 1",
        "# SELECT 1",
    ):
        assert "not allowed" in engine.execute([(session, hidden)])[0].text, hidden
    engine.close(session)
