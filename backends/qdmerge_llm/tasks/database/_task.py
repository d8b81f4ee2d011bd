"""AgentBench's database problems: rows, protocol and judgement."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, PositiveInt

from qdmerge.errors import ConfigError, EvaluationError
from qdmerge_llm.items import Item
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._kind import Episode, EpisodeTask, Generate
from qdmerge_llm.tasks.database._engine import Engine, SQLiteEngine, Table, Types, UnfitTableError
from qdmerge_llm.tasks.database._mysql import MySQLEngine, connector

_WRITES = ("INSERT", "UPDATE", "DELETE")
_ROUNDS = 16  # the original executes 15 operations, then takes the answer
_SYSTEM = """\
You solve a user's problem on a MySQL database. You work in turns, at most {rounds} of them. \
Each turn takes exactly one of two actions.

To run one SQL statement, write:
Action: Operation
```sql
SELECT `name` FROM `people` WHERE `age` > 30;
```
The statement must be a single one. Its raw result is sent back to you, cut if it is long.

When the problem is solved, write:
Action: Answer
Final Answer: ["first value", "second value"]
Give the values asked for as a list, a single value as a list of one. If the problem asks you to \
change the table, change it first; the final answer can then be anything. \
Nobody sees anything but the final answer."""
_ANYTHING = "SHOW TABLES"  # executed where the table can be built
_ACTION = re.compile(r"Action\s*:\W*(\w+)", re.IGNORECASE)
_SQL = re.compile(
    r"```[ \t]*(?:\w*sql\w*)?[ \t]*\n(.*?)(?:^[ \t]*```|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_FINAL = re.compile(r"^\W*Final Answer\s*:(.*)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LONGEST = 10_000  # characters of an answer that is read as a list


def _known_engine(name: str) -> str:
    """Return the name of a usable engine, without connecting; ValueError if it is none."""
    if name == "sqlite":
        return name
    if not name.startswith(("mysql://", "mariadb://")):
        raise ValueError(
            "the engine of a database task is sqlite or mysql://user@host:port/, "
            f"not '{name.split(':')[0]}'"
        )
    try:
        connector(name)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return name


class AgentBenchDBTask(EpisodeTask):
    """Database problems of AgentBench (Liu et al. 2023, arXiv 2308.03688): rows and protocol.

    A row has ``description``, ``table`` (``table_name`` and ``table_info``: ``columns``, ``rows``),
    ``type``, ``label`` and often ``add_description``, which names the table and its columns. For
    INSERT, UPDATE and DELETE the label is the reference statement. Such a problem is solved if the
    table equals, in any order of rows, what the reference statement makes of it when the episode
    ends, in whatever way; a question is solved by the values of its label. ``answer_md5``, the
    original's hash of the table, decides where the reference statement gives it here, too.

    AgentBench reports the mean of the success rates over the kinds SELECT, INSERT and UPDATE. The
    score here is the mean over the items: the same where the kinds are equally many.

    Args:
        sandbox: Where SQLite executes statements.
        engine: "sqlite", or ``mysql://user@host:port/`` of a MySQL or MariaDB server (see
            :class:`MySQLEngine`).
        types: "text" makes all columns TEXT, as the original does; "numeric" gives columns of plain
            numbers a number's type.
        system: System prompt; None for the kind's own, which tells ``rounds``, "" for none.
        rounds: Turns the model has; None for 16, those of the original's published settings: 15
            operations at most, and the answer. The last turn's operation is not executed.

    Raises:
        ConfigError: No such engine, or its library is not installed, or its server not reached.
    """

    leaves_out: ClassVar[bool] = True
    default_system: ClassVar[str] = _SYSTEM.replace("{rounds}", str(_ROUNDS))
    default_rounds: ClassVar[int] = _ROUNDS

    def __init__(
        self,
        sandbox: Sandbox,
        engine: Annotated[str, AfterValidator(_known_engine)] = "sqlite",
        types: Types = "text",
        system: str | None = None,
        rounds: PositiveInt | None = None,
    ) -> None:
        super().__init__(sandbox, system, rounds)
        if system is None:
            self.system = _SYSTEM.replace("{rounds}", str(self.rounds))
        self._types: Types = types
        self._engine = self._make(engine, sandbox)
        self._expected: dict[str, str] = {}  # hashes of tables after their reference statements

    @staticmethod
    def _make(engine: str, sandbox: Sandbox) -> Engine:
        try:
            _known_engine(engine)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return SQLiteEngine(sandbox) if engine == "sqlite" else MySQLEngine(engine)

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the row with an ``id`` (else its number) and a ``prompt``."""
        heads = ", ".join(str(c["name"]) for c in row["table"]["table_info"]["columns"])
        about = row.get("add_description") or (
            f"The name of this table is {row['table']['table_name']}, and the headers of this "
            f"table are {heads}."
        )
        named = {"id": str(row.get("id", number)), "prompt": f"{row['description']}\n{about}"}
        return {**row, **named}

    @classmethod
    def bare_question(cls, item: Item) -> str:
        """Return the description, without the sentence about the table."""
        return str(item["description"])

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the form of a row, or None."""
        label, table = item.get("label"), item.get("table")
        if not isinstance(label, list) or not label:
            return "'label' must be a list of at least one value"
        if not isinstance(item.get("type"), list) or not item["type"]:
            return "'type' must be a list that starts with the kind of problem"
        if _writes(item) and not isinstance(label[0], str):
            return f"'label' of {item['type'][0]} must be the reference statement"
        try:
            assert isinstance(table, dict)
            columns = [column["name"] for column in table["table_info"]["columns"]]
            lengths = {len(row) for row in table["table_info"]["rows"]}
            assert all(isinstance(name, str) for name in [table["table_name"], *columns])
        except (AssertionError, KeyError, TypeError):
            return "'table' must have 'table_name' and 'table_info' with 'columns' and 'rows'"
        if not columns or lengths - {len(columns)}:
            return "'table' must have columns, and each row as many cells"
        return None

    @classmethod
    def unaskable(cls, item: Item) -> str | None:
        """Return what is wrong with the form of a row's table, or None."""
        return cls.problem(_unlabeled(item))

    def ask(self, items: Sequence[Item], generate: Generate) -> None:
        """Play all episodes; what they come to is not looked at."""
        self.play([_unlabeled(item) for item in items], generate)

    def unusable(self, items: Sequence[Item]) -> dict[str, str]:
        """Return the items whose table cannot be built, or whose reference statement fails."""
        found: dict[str, str] = {}
        for first in range(0, len(items), self.at_once):
            found |= self._learn(items[first : first + self.at_once])
        return found

    def remarks(self, items: Sequence[Item]) -> list[str]:
        """Name the items whose ``answer_md5`` is not what their reference statement gives."""
        self._learn(items)
        return [
            f"item '{item['id']}': its reference statement does not give its answer_md5 on this "
            "engine; the table that the statement makes is what counts"
            for item in items
            if _writes(item)
            and item.get("answer_md5")
            and self._expected.get(_key(item), "").split(" ", 1)[-1] != item["answer_md5"]
        ]

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return the reference statement, where there is one, and the label as the final answer."""
        if not _writes(item):
            return [
                f"Action: Answer\nFinal Answer: {json.dumps(item['label'], ensure_ascii=False)}"
            ]
        return [
            f"Action: Operation\n```sql\n{item['label'][0]}\n```",
            'Action: Answer\nFinal Answer: ["done"]',
        ]

    def begin(self, items: Sequence[Item], opened: list[Episode]) -> None:
        """Open databases, after finding out what the reference statements make of them.

        Raises:
            EvaluationError: A table cannot be built, or a reference statement fails.
        """
        for name, reason in self._learn([item for item in items if _writes(item)]).items():
            raise EvaluationError(f"item '{name}': {reason}")
        super().begin(items, opened)

    def start(self, item: Item) -> Episode:
        """Open a database of its own for a problem."""
        session = self._engine.open(Table.of(item, self._types))
        return Episode(item, self.opening(item["prompt"]), session)

    def close(self, episode: Episode) -> None:
        """Drop an episode's database."""
        self._engine.close(episode.state)

    def act(self, episodes: Sequence[Episode]) -> None:
        """Execute the operations and judges the answers of a round."""
        operations: list[tuple[Episode, str]] = []
        changed: list[Episode] = []  # a table is judged however its episode ends
        for episode in episodes:
            turn = parse_turn(episode.answer)
            if turn and turn[0] == "operation" and episode.turns < self.rounds:
                operations.append((episode, turn[1]))
            elif _writes(episode.item):
                changed.append(episode)
            elif turn is None:
                episode.end(0.0, "neither an operation with SQL nor a final answer")
            elif turn[0] == "answer":
                values = parse_values(turn[1])
                right = same_answer(values, episode.item["label"])
                episode.end(right, "right answer" if right else "wrong answer")
        if operations:
            replies = self._engine.execute([(e.state, statement) for e, statement in operations])
            for (episode, _), reply in zip(operations, replies, strict=True):
                episode.tell(reply.text)
        if changed:
            self._judge(changed)

    def _judge(self, episodes: Sequence[Episode]) -> None:
        """End the episodes whose tables were to be changed."""
        found = self._engine.contents([episode.state for episode in episodes])
        for episode, contents in zip(episodes, found, strict=True):
            right = _alike(contents, self._expected[_key(episode.item)], episode.item)
            episode.end(right, "right table" if right else "wrong table")

    def _learn(self, items: Sequence[Item]) -> dict[str, str]:
        """Find what the references make of the tables; return the id and failure of others. What
        was found is kept, failures are not: what they came from may pass.
        """
        new = {_key(item): item for item in items if _key(item) not in self._expected}
        failed: dict[str, str] = {}
        sessions: dict[str, Any] = {}
        try:
            for key, item in new.items():
                try:
                    sessions[key] = self._engine.open(Table.of(item, self._types))
                except UnfitTableError as error:
                    failed[key] = str(error)
            before = self._engine.contents(list(sessions.values()))
            statements = [new[k]["label"][0] if _writes(new[k]) else _ANYTHING for k in sessions]
            replies = self._engine.execute(list(zip(sessions.values(), statements, strict=True)))
            hashes = self._engine.contents(list(sessions.values()))
        finally:
            for session in sessions.values():
                self._engine.close(session)
        for key, reply, old, contents in zip(sessions, replies, before, hashes, strict=True):
            if reply.ok and _writes(new[key]) and contents == old:
                failed[key] = "the reference statement changes nothing, so doing nothing solves it"
            elif reply.ok and contents is not None:
                self._expected[key] = contents
            else:
                what = "the reference statement fails: " if _writes(new[key]) else ""
                failed[key] = f"{what}{reply.text}"
        return {item["id"]: failed[_key(item)] for item in items if _key(item) in failed}


def _alike(contents: str | None, expected: str, item: Item) -> bool:
    """Return whether a table is what the reference makes of it: by the hash that the row gives, as
    in the original, where the reference gives that, too; else row by row.
    """
    if contents is None:
        return False
    (rows, own), (right, known) = contents.split(" ", 1), expected.split(" ", 1)
    return own == known if known == item.get("answer_md5") else rows == right


def _unlabeled(item: Item) -> Item:
    """Return a row as a question whose answer is of no interest."""
    return {**item, "type": ["other"], "label": [""]}


def _writes(item: Item) -> bool:
    return str(item["type"][0]).upper() in _WRITES


def _key(item: Item) -> str:
    return json.dumps([item["table"], item["label"]], sort_keys=True)


def parse_turn(text: str) -> tuple[str, str] | None:
    """Return what a turn asks for.

    Returns:
        ``("operation", SQL)``, ``("answer", text after "Final Answer:")``, or None where the turn
        is not of the protocol's form. Its first action counts; a final answer needs none.
    """
    action = _ACTION.search(text)
    if action and action[1].lower() == "operation":
        found = _SQL.search(text, action.end())
        return ("operation", found[1].strip()) if found and found[1].strip() else None
    found = _FINAL.search(text)
    return ("answer", found[1].strip()) if found else None


def parse_values(text: str) -> list[str]:
    """Return the values of a final answer: ``["a", 1]``, ``[('a',)]``, ``[a]`` or ``a``."""
    line = text.strip().split("\n")[0].strip()
    for candidate in (text.strip(), line):
        opened = candidate.find("[")
        if opened != 0 or len(candidate) > _LONGEST or candidate.count("[") > 50:
            continue
        closed = candidate[: candidate.rfind("]") + 1]
        for read in (json.loads, ast.literal_eval):
            try:
                return [_text(member) for member in read(closed)]
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
    inner = line[1:].removesuffix("]") if line.startswith("[") else line
    return [inner.strip().strip("'\"")]


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)) and len(value) == 1:  # a row of one column
        return _text(value[0])
    return "none" if value is None else str(value)


def same_answer(values: Sequence[str], label: Sequence[Any]) -> bool:
    """Return whether an answer's values are the label's.

    One is equal to one as a number if both are numbers, else as text. Several are compared as sets
    of texts.
    """
    said, right = ([_text(value).strip() for value in given] for given in (values, label))
    if len(said) == len(right) == 1:
        numbers = [_number(text) for text in (*said, *right)]
        return said == right or (None not in numbers and numbers[0] == numbers[1])
    return set(said) == set(right)


def _number(text: str) -> float | None:
    number = float(text) if len(text) < 400 and _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None
