from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.errors import ConfigError, EvaluationError
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import replay
from qdmerge_llm.tasks.database import (
    AgentBenchDBTask,
    Engine,
    MySQLEngine,
    Reply,
    SQLiteEngine,
    Table,
    _mysql,
    parse_turn,
    parse_values,
    same_answer,
)
from tests.backends.llm import mariadb

SHARED = Path(os.environ.get("QDMERGE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
ROWS = SHARED / "agentbench" / "dbbench-dev.jsonl"
needs_rows = pytest.mark.skipif(
    not ROWS.is_file(), reason=f"no {ROWS}; set QDMERGE_SHARED_DATA to the folder of real data"
)


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    reason = mariadb.missing()
    if reason:
        pytest.skip(reason)
    with mariadb.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    """What the option ``engine`` is."""
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("mysql_url")


@pytest.fixture
def engine(url: str, sandbox: Sandbox) -> Engine:
    return SQLiteEngine(sandbox) if url == "sqlite" else MySQLEngine(url)


def row(kind: str = "other", label: Any = "Bo", **changes: Any) -> dict[str, Any]:
    columns = [{"name": "full name", "type": "TEXT"}, {"name": "age", "type": "INT"}]
    rows = [["Ann", "9"], ["Bo", "30"], ["Cy", "30"]]
    return {
        "description": "Who?",
        "label": label if isinstance(label, list) else [label],
        "type": [kind],
        "table": {"table_name": "the people", "table_info": {"columns": columns, "rows": rows}},
        **changes,
    }


def items(*rows: dict[str, Any]) -> list[Any]:
    read = [AgentBenchDBTask.read(row, number) for number, row in enumerate(rows, 1)]
    assert [AgentBenchDBTask.problem(item) for item in read] == [None] * len(rows)
    return read


def real_items() -> list[Any]:
    return items(*map(json.loads, ROWS.read_text(encoding="utf-8").splitlines()))


def sql(statement: str) -> str:
    return f"Action: Operation\n```sql\n{statement}\n```"


def final(*values: Any) -> str:
    return f"Action: Answer\nFinal Answer: {json.dumps(values)}"


def play(task: AgentBenchDBTask, chosen: Sequence[Any], *turns: str) -> list[Any]:
    """All say the same, turn by turn, and the last turn for ever."""
    said = iter(turns)

    def speak(prompts: Sequence[Any]) -> list[str]:
        return [next(said, turns[-1])] * len(prompts)

    return task.play(chosen, speak)


@needs_rows
@pytest.mark.parametrize("types", ["text", "numeric"])
def test_gold_replay_of_the_real_rows(url: str, types: Any, sandbox: Sandbox) -> None:
    chosen = real_items()
    task = AgentBenchDBTask(sandbox, url, types)
    assert len(chosen) == 60
    assert task.unusable(chosen) == {}
    assert [episode for episode in replay(task, chosen) if episode.score != 1] == []
    idle = play(task, chosen, final("no idea"))
    assert not any(episode.score for episode in idle), "a problem is solved by doing nothing"


@needs_rows
def test_the_table_after_the_reference_is_that_of_the_original(mysql_url: str) -> None:
    """The original's hash of a table, which the rows hold, over what our engine made of it."""
    import pymysql

    engine = MySQLEngine(mysql_url)
    checked = 0
    for item in real_items():
        if "answer_md5" not in item:
            continue
        session = engine.open(Table.of(item, "text"))
        engine.execute([(session, item["label"][0])])
        with engine._connect(session.database) as connection, connection.cursor() as cursor:
            columns = ",".join(f"`{name}`" for name, _ in session.table.columns)
            cursor.execute("SET SESSION group_concat_max_len = 1024")
            cursor.execute(
                "SELECT MD5(GROUP_CONCAT(h ORDER BY h)) FROM (SELECT SUBSTRING(MD5(CONCAT_WS(',', "
                f"{columns})), 1, 5) AS h FROM `{session.table.name}`) AS hashes"
            )
            assert str(list(cursor.fetchall())) == item["answer_md5"]
        engine.close(session)
        checked += 1
    assert checked == 40
    assert pymysql.__version__


def test_an_episode_of_several_rounds(url: str, sandbox: Sandbox) -> None:
    statement = "UPDATE `the people` SET age = '31' WHERE `full name` = 'Bo'"
    chosen = items(row("UPDATE", statement), row("UPDATE", statement + " OR age = '9'"))
    task = AgentBenchDBTask(sandbox, url)
    right, wrong = play(
        task,
        chosen,
        sql("SELECT age FROM `the people` WHERE `full name` = 'bo';"),
        sql(statement),
        sql("SELECT nothing FROM nowhere"),
        final("done"),
    )
    assert (right.score, right.detail, wrong.score, wrong.detail) == (
        1.0,
        "right table",
        0.0,
        "wrong table",
    )
    told = [m["content"] for m in right.messages if m["role"] == "user"]
    assert told[0].startswith("Who?\nThe name of this table is the people, and the headers")
    assert told[1:3] == ["[('30',)]", "[]"]
    assert told[3].startswith("Error: ")


def test_rows_in_any_order_and_nothing_else(url: str, sandbox: Sandbox) -> None:
    insert = "INSERT INTO `the people` VALUES ('Di', '4'), ('Ed', '5')"
    task = AgentBenchDBTask(sandbox, url)
    tries = {
        insert: 1,
        "INSERT INTO `the people` (age, `full name`) VALUES (5, 'Ed'), (4, 'Di')": 1,
        "INSERT INTO `the people` VALUES ('Di', '4'), ('Ed', '5'), ('Ed', '5')": 0,
        "INSERT INTO `the people` VALUES ('Di', '4'), ('Ed', NULL)": 0,
        "INSERT INTO `the people` VALUES ('di', '4'), ('Ed', '5')": 0,
        "DROP TABLE `the people`": 0,
        "ALTER TABLE `the people` RENAME COLUMN age TO years": 0,
    }
    chosen = items(row("INSERT", insert))
    scores = [play(task, chosen, sql(said), final("done"))[0].score for said in tries]
    assert scores == list(tries.values())


def test_problems_do_not_see_one_another(engine: Engine) -> None:
    table = Table("t", (("a", "TEXT"),), (("1",), ("2",)))
    first, second = engine.open(table), engine.open(table)
    assert engine.contents([first]) == engine.contents([second])
    engine.execute([(first, "DELETE FROM t"), (second, "INSERT INTO t VALUES ('3')")])
    replies = engine.execute([(first, "SELECT COUNT(*) FROM t"), (second, "SELECT a FROM t")])
    assert [reply.text for reply in replies] == ["[(0,)]", "[('1',), ('2',), ('3',)]"]
    assert len(set(engine.contents([first, second]))) == 2
    for session in (first, second):
        engine.close(session)


def test_types_of_columns() -> None:
    cells = [["7", "1.5", "007", "1,000", "", "5"], ["-3", "2", "1", "2", "x", ""]]
    info = {"columns": [{"name": n, "type": "TEXT"} for n in "abcdef"], "rows": cells}
    item = {"table": {"table_name": "t", "table_info": info}}
    kinds = [kind for _, kind in Table.of(item, "numeric").columns]
    assert kinds == ["INTEGER", "REAL", "TEXT", "TEXT", "TEXT", "INTEGER"]
    assert Table.of(item, "numeric").rows[1][5] is None
    assert {kind for _, kind in Table.of(item, "text").columns} == {"TEXT"}
    empty = {"columns": [{"name": "a", "type": "INT"}, {"name": "", "type": "TEXT"}], "rows": []}
    item = {"table": {"table_name": "t", "table_info": empty}}
    assert Table.of(item, "numeric").columns == (("a", "REAL"), ("column_2", "TEXT"))


def test_numbers_order_as_numbers_where_columns_are_numeric(url: str, sandbox: Sandbox) -> None:
    question = sql("SELECT `full name`, age FROM `the people` ORDER BY age LIMIT 1")
    for types, shown in (("text", "[('Bo', '30')]"), ("numeric", "[('Ann', 9)]")):
        task = AgentBenchDBTask(sandbox, url, types)  # type: ignore[arg-type]
        episode = play(task, items(row()), question, final("Bo"))[0]
        assert episode.messages[-2]["content"] == shown
        assert episode.score == 1


MYSQL = {
    "SELECT CONCAT(`a`, '!') FROM t WHERE `a` = \"it's\"": '[("it\'s!",)]',
    r"SELECT a FROM t WHERE a = 'it\'s'": '[("it\'s",)]',
    "SELECT IF(b > 1, 'yes', 'no') FROM t LIMIT 1, 1": "[('yes',)]",
    "SELECT COUNT(*) FROM t WHERE a REGEXP '^IT'": "[(1,)]",
    "SELECT YEAR('2020-03-04'), MONTH('2020-03-04')": "[(2020, 3)]",
    "SELECT SUM(b) FROM t": "[(3,)]",
    "SHOW TABLES": "[('t',)]",
}


def test_the_mysql_that_models_write(engine: Engine) -> None:
    table = Table("t", (("a", "TEXT"), ("b", "INTEGER")), (("it's", 1), ("x\\ny", 2)))
    session = engine.open(table)
    said = {statement: engine.execute([(session, statement)])[0].text for statement in MYSQL}
    assert said == MYSQL
    described = engine.execute([(session, "DESCRIBE `t`;")])[0].text
    assert "('a', 'text', 'YES'" in described
    assert "'b'" in described
    engine.close(session)


ALIKE = Table(
    "2nd t",
    (("1st", "TEXT"), ("n", "TEXT"), ("x", "TEXT")),
    (("Café", "9", "a"), ("cafe", "30", "1st"), ("Łódź", "100", "b"), ("none", "", "c_d")),
)
AS_IN_MYSQL = {  # statement: the texts of ``n`` that it gives
    "SELECT n FROM `2nd t` WHERE 1st = 'CAFE'": ["9", "30"],
    "SELECT n FROM `2nd t` WHERE `2nd t`.`1st` = 'cafe'": ["9", "30"],
    "SELECT n FROM `2nd t` WHERE 1st LIKE 'caf_'": ["9", "30"],
    "SELECT n FROM `2nd t` WHERE 1st IN ('CAFÉ', 'x')": ["9", "30"],
    "SELECT n FROM `2nd t` WHERE x LIKE 'C\\_d' OR x LIKE 'a\\%'": [""],
    "SELECT n FROM `2nd t` WHERE n > 10": ["30", "100"],
    "SELECT n FROM `2nd t` WHERE n > '10'": ["9", "30", "100"],
    "SELECT n FROM `2nd t` WHERE 10 < n AND n <> 30": ["100"],
    "SELECT n FROM `2nd t` WHERE n BETWEEN 8 AND 31": ["9", "30"],
    "SELECT n FROM `2nd t` WHERE n NOT IN (9, 30.0) AND n != 0": ["100"],
    "SELECT n FROM `2nd t` WHERE n = 0": [""],
    "SELECT n FROM `2nd t` WHERE \"n\" = 'n' AND n = 9": ["9"],
    "SELECT n FROM `2nd t` WHERE 1st = 'cafe' && n = 9 || n = 100": ["9", "100"],
    "SELECT n FROM `2nd t` WHERE n / 4 = 7.5": ["30"],
    "SELECT n FROM `2nd t` WHERE x = 1": ["30"],
    "SELECT n FROM '2nd t'": None,
    "SELECT n FROM [2nd t]": None,
    "SELECT n FROM `2nd t` WHERE n == 9": None,
    "INSERT INTO `2nd t` ('1st', 'n', 'x') VALUES (1, 2, 3)": None,
    "UPDATE `2nd t` SET n = 5 WHERE x = 1": None,
}


def test_statements_mean_what_they_mean_in_mysql(engine: Engine) -> None:
    session = engine.open(ALIKE)
    before = engine.contents([session])
    found: dict[str, Any] = {}
    for statement in AS_IN_MYSQL:
        (reply,) = engine.execute([(session, statement)])
        found[statement] = [row[0] for row in ast.literal_eval(reply.text)] if reply.ok else None
    assert {k: v and sorted(v, key=len) for k, v in found.items()} == AS_IN_MYSQL
    assert engine.contents([session]) == before
    engine.execute([(session, "UPDATE `2nd t` SET n = 5, 1st = 'x' WHERE x = 'A'")])
    (reply,) = engine.execute([(session, "SELECT n FROM `2nd t` WHERE 1st = 'X'")])
    assert reply.text == "[('5',)]"
    engine.close(session)


def test_a_right_write_counts_however_the_episode_ends(url: str, sandbox: Sandbox) -> None:
    statement = "UPDATE `the people` SET age = '31' WHERE `full name` = 'Bo'"
    task = AgentBenchDBTask(sandbox, url, rounds=3)
    look = sql("SELECT 1")
    endings = {
        "right": [sql(statement), final("done")],
        "no form": [sql(statement), "I am done."],
        "silence": [sql(statement), ""],
        "rounds": [sql(statement), look],
        "too late": [look, look, sql(statement)],
        "nothing": [final("done")],
        "undone": [sql(statement), sql("UPDATE `the people` SET age = '1'"), final("done")],
    }
    scores = {
        k: play(task, items(row("UPDATE", statement)), *v)[0].score for k, v in endings.items()
    }
    assert scores == dict.fromkeys(endings, 1) | {"too late": 0, "nothing": 0, "undone": 0}


def test_references_that_change_nothing_are_named(url: str, sandbox: Sandbox) -> None:
    same = "UPDATE `the people` SET age = '30' WHERE `full name` = 'Bo'"
    chosen = items(row("UPDATE", same), row("DELETE", "DELETE FROM `the people` WHERE age = 'x'"))
    found = AgentBenchDBTask(sandbox, url).unusable(chosen)
    assert list(found) == ["1", "2"]
    assert "changes nothing" in found["1"]


def test_the_hash_of_a_row_decides_where_it_can(url: str, sandbox: Sandbox) -> None:
    statement = "INSERT INTO `the people` VALUES ('Di', '4')"
    rows = ["Ann,9", "Bo,30", "Cy,30", "Di,4"]
    digests = sorted(hashlib.md5(text.encode()).hexdigest()[:5] for text in rows)
    known = f"[('{hashlib.md5(','.join(digests).encode()).hexdigest()}',)]"
    task = AgentBenchDBTask(sandbox, url)
    right, other = items(
        row("INSERT", statement, answer_md5=known), row("INSERT", statement, answer_md5="[('0',)]")
    )
    said = task.remarks([right, other])
    assert len(said) == 1
    assert "item '2'" in said[0]
    cut = sql("INSERT INTO `the people` VALUES ('Di,4', NULL)")  # the same to the original's hash
    assert [e.score for e in play(task, [right, other], cut, final("done"))] == [1, 0]


HOSTILE = [
    "ATTACH DATABASE '{file}' AS other",
    "VACUUM INTO '{file}'",
    "SELECT load_extension('{file}')",
    "SELECT 1 INTO OUTFILE '{file}'",
    "SELECT 1 /*! INTO OUTFILE '{file}' */",
    "SELECT LOAD_FILE('/etc/passwd')",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
    "PRAGMA temp_store_directory = '/tmp'",
    "DROP TABLE t; DROP TABLE t",
    "DROP DATABASE mysql",
    "SELECT * FROM mysql.user",
    "SET GLOBAL max_connections = 1",
    "SHUTDOWN",
    "EXECUTE IMMEDIATE 'DROP DATABASE mysql'",
    "CREATE TABLE u AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "SELECT n, n AS m FROM r",
    "INSERT INTO t SELECT a.a FROM " + ", ".join(f"t AS {x}" for x in "abcdefghijklmnopqrstuvw"),
    "SELECT SLEEP(100) + zeroblob(2000000000)",
    "SELECT " + "(" * 5000,
    "\0",
    "\udcff\u2028",
    "😀",
]


def test_hostile_statements_do_nothing(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mysql, "_BOUND", "max_statement_time = 1")
    table = Table("t", (("a", "TEXT"),), tuple((str(k),) for k in range(9)))
    orders = [statement.format(file=tmp_path / "file") for statement in HOSTILE]
    sessions = [engine.open(table) for _ in orders]
    before = engine.contents(sessions)
    replies = engine.execute(list(zip(sessions, orders, strict=True)))
    assert [o for o, reply in zip(orders, replies, strict=True) if reply.ok and "!" not in o] == []
    assert all(len(reply.text) < 900 for reply in replies)
    assert engine.contents(sessions) == before
    assert not list(tmp_path.iterdir())
    for session in sessions:
        engine.close(session)


def test_results_are_cut(engine: Engine) -> None:
    table = Table("t", (("a", "TEXT"),), tuple((f"{k:050}",) for k in range(1000)))
    session = engine.open(table)
    endless = "SELECT x.a FROM t AS x, t AS y, t AS z, t AS w"
    wide = "SELECT GROUP_CONCAT(a) FROM t"
    for statement in (endless, wide):
        text = engine.execute([(session, statement)])[0].text
        assert len(text) == 800 + len("[TRUNCATED]")
        assert text.endswith("[TRUNCATED]")
    engine.close(session)


TURNS = {
    "Action: Operation\n```sql\nSELECT 1;\n```": ("operation", "SELECT 1;"),
    "I look.\n\nAction: Operation\n```SQL\nSELECT a\nFROM t\n```\nThen?": (
        "operation",
        "SELECT a\nFROM t",
    ),
    "**Action:** Operation\n\n```mysql\nSELECT 1\n```": ("operation", "SELECT 1"),
    "Action: Operation\n```\nSELECT 1\n```": ("operation", "SELECT 1"),
    "Action: Operation\n```sql\nSELECT 1": ("operation", "SELECT 1"),
    "Action: Operation\n```sql\nSELECT 1\n```\nAction: Answer\nFinal Answer: [1]": (
        "operation",
        "SELECT 1",
    ),
    "action: answer\nfinal answer: [1]": ("answer", "[1]"),
    "Action: Answer\nFinal Answer: []": ("answer", "[]"),
    "Action: Operation\nSELECT 1": None,
    "Action: Operation\n```sql\n```": None,
    "Action: Answer\nIt is 1.": None,
    "Final Answer: [1]": ("answer", "[1]"),
    "It is done.\n**Final Answer:** [1]": ("answer", "** [1]"),
    "The final answer: [1]": None,
    "Action: Finish\nFinal Answer: [1]": ("answer", "[1]"),
    "Final Answer: [1]\nAction: Operation\n```sql\nSELECT 1\n```": ("operation", "SELECT 1"),
    "```sql\nSELECT 1\n```": None,
    "": None,
}


def test_turns() -> None:
    assert {text: parse_turn(text) for text in TURNS} == TURNS


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("[1, 2.5]", ["1", "2.5"]),
        ("[('a',), ('b',)]", ["a", "b"]),
        ('["a"]\nThat is it.', ["a"]),
        ("[March 19, 1998]", ["March 19, 1998"]),
        ("March 19, 1998", ["March 19, 1998"]),
        ('"a"', ["a"]),
        ("[]", []),
        ("[None]", ["none"]),
        ("[", [""]),
        ("[[[[", ["[[["]),
        ("['a'", ["a"]),
        ("[__import__('os').system('true')]", ["__import__('os').system('true')"]),
        ("[" * 9999, ["[" * 9998]),
    ],
)
def test_values_of_a_final_answer(text: str, values: list[str]) -> None:
    assert parse_values(text) == values


@pytest.mark.parametrize(
    ("values", "label", "same"),
    [
        (["7"], ["7.0"], True),
        (["1e2"], ["100"], True),
        ([" 7 "], [7], True),
        (["7"], ["8"], False),
        (["a"], ["a"], True),
        (["a"], ["A"], False),
        (["nan"], ["nan"], True),
        (["1_000"], ["1000"], False),
        (["a", "a"], ["a"], True),
        (["7", "7.0"], ["7"], False),
        ([], ["a"], False),
        (["b", "a"], ["a", "b"], True),
        (["b", "a", "a"], ["a", "b"], True),
        (["2.0", "1.0"], ["1.0", "2.0"], True),
        (["1", "2"], ["2.0", "1.0"], False),
        (["a"], ["a", "b"], False),
        (["none"], [None], True),
        (["a"], [["a"]], True),
    ],
)
def test_comparison_of_answers(values: list[str], label: list[Any], same: bool) -> None:
    assert same_answer(values, label) == same


@given(st.lists(st.text() | st.integers() | st.floats(allow_nan=False), min_size=1, max_size=4))
def test_a_label_answers_itself(label: list[Any]) -> None:
    assert same_answer(parse_values(json.dumps(label, ensure_ascii=False)), label) or any(
        abs(v) == float("inf") for v in label if isinstance(v, float)
    )


@given(st.text())
def test_no_text_upsets_the_parsers(text: str) -> None:
    parse_turn(text)
    parse_turn(f"Action: Operation\n```sql\n{text}")
    assert isinstance(parse_values(text), list)


def test_scores_and_rounds(sandbox: Sandbox) -> None:
    task = AgentBenchDBTask(sandbox, rounds=2)
    chosen = items(row(), row(label=["Cy", "Bo"]))
    scores = task.evaluate(chosen, lambda prompts: [final("Bo")] * len(prompts))
    assert scores.dtype == np.float64
    assert scores.tolist() == [1, 0]
    late = play(task, chosen, sql("SELECT 1"))
    assert [e.detail for e in late] == ["no answer within 2 rounds"] * 2
    lost = play(task, chosen, "I do not know.")
    assert {e.detail for e in lost} == {"neither an operation with SQL nor a final answer"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": "Bo"}, "'label'"),
        ({"label": []}, "'label'"),
        ({"type": []}, "'type'"),
        ({"type": ["INSERT"], "label": [1]}, "'label' of INSERT"),
        ({"table": {"table_name": "t"}}, "'table'"),
        (
            {"table": {"table_name": "t", "table_info": {"columns": [], "rows": []}}},
            "as many cells",
        ),
        (
            {
                "table": {
                    "table_name": "t",
                    "table_info": {"columns": [{"name": "a"}], "rows": [[1, 2]]},
                }
            },
            "as many cells",
        ),
    ],
)
def test_rows_of_wrong_form(changes: dict[str, Any], said: str) -> None:
    item = row() | {"id": "1", "prompt": "x"} | changes
    assert said in (AgentBenchDBTask.problem(item) or "")


def test_rows_are_tried_with_the_engine(url: str, sandbox: Sandbox) -> None:
    task = AgentBenchDBTask(sandbox, url)
    twice = {"columns": [{"name": "a"}, {"name": "A"}], "rows": [[1, 2]]}
    chosen = items(
        row(),
        row("UPDATE", "UPDATE nowhere SET a = 1"),
        row(table={"table_name": "t", "table_info": twice}),
        row("UPDATE", "UPDATE `the people` SET age = SHA2(age, 256)"),  # MySQL's own
    )
    found = task.unusable(chosen)
    assert "the reference statement fails: Error: " in found["2"]
    assert "nowhere" in found["2"]
    assert "duplicate column name" in found["3"].lower()
    assert sorted(found) == (["2", "3", "4"] if url == "sqlite" else ["2", "3"])


def test_failures_are_not_kept(url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    task = AgentBenchDBTask(sandbox, url)
    chosen = items(row("UPDATE", "UPDATE `the people` SET age = '1'"))
    with monkeypatch.context() as patch:
        patch.setattr(task._engine, "execute", lambda orders: [Reply("Error: gone", False)])
        assert "Error: gone" in task.unusable(chosen)["1"]
    assert task.unusable(chosen) == {}
    monkeypatch.setattr(task._engine, "open", None)
    assert task.unusable(chosen) == {}, "what works is tried once"


def test_references_that_fail(url: str, sandbox: Sandbox) -> None:
    broken = items(row("UPDATE", "UPDATE nowhere SET a = 1"))
    with pytest.raises(EvaluationError, match="item '1': the reference statement fails"):
        play(AgentBenchDBTask(sandbox, url), broken, "whatever it says")


def test_comments_before_a_statement(engine: Engine) -> None:
    session = engine.open(Table("t", (("a", "TEXT"),), (("x",),)))
    for statement in (
        "-- why\nSELECT a FROM t",
        "# why\nSELECT a FROM t",
        "/* y */ SELECT a FROM t",
    ):
        assert engine.execute([(session, statement)])[0].text == "[('x',)]"
    assert engine.execute([(session, "# why\nSHOW TABLES")])[0].text == "[('t',)]"
    engine.close(session)


def test_the_prompt_tells_the_rounds(sandbox: Sandbox) -> None:
    assert "at most 16 of them" in AgentBenchDBTask.default_system
    assert AgentBenchDBTask(sandbox).system == AgentBenchDBTask.default_system
    assert "at most 3 of them" in AgentBenchDBTask(sandbox, rounds=3).system
    assert AgentBenchDBTask(sandbox, system="", rounds=3).system == ""


def test_engines_that_do_not_exist(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match=r"sqlite or mysql://.*not 'oracle'"):
        AgentBenchDBTask(sandbox, "oracle")
