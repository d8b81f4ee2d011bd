"""SQLite inside the sandbox: one SELECT, or a table and the statements of an episode so far.

Runs as text in the batch runner (standard library only). An episode has no process of its own: each
round starts from the item's table and repeats its statements, which takes milliseconds and lets any
number of episodes share one sandbox.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

SHOWN = 800  # characters of a result
MAX_STEPS = 5_000_000  # virtual machine instructions of one statement of an episode
MAX_SELECT_STEPS = 20_000_000  # the same of a SELECT alone
MAX_ROWS = 10_000  # of a SELECT alone
MAX_MEMORY = 128 << 20  # bytes that SQLite may hold
MAX_VALUE = 1 << 20  # bytes of one value or row
WARM_UP: dict[str, Any] = {
    "table": {"name": "t", "columns": [["a", "TEXT"]], "rows": [["1"]]},
    "statements": ["SELECT CONCAT(a, 'b') FROM t"],
    "contents": True,
}

# Not the kind that MySQL executes, /*! ... */ and MariaDB's /*M! ... */.
_COMMENTS = re.compile(r"(?:\s|--(?=\s|\Z)[^\n]*|#[^\n]*|/\*(?!M?!).*?\*/)*", re.DOTALL)
_NAME = r"[`'\"]?(?P<name>[^`'\";]+?)[`'\"]?"
_DESCRIBE = re.compile(
    rf"\s*(?:DESC(?:RIBE)?|SHOW\s+COLUMNS\s+(?:FROM|IN))\s+{_NAME}\s*;?\s*", re.IGNORECASE
)
_TABLES = re.compile(r"\s*SHOW\s+TABLES\s*;?\s*", re.IGNORECASE)
_DESCRIBED = "SELECT name, lower(type), 'YES', '', NULL, '' FROM pragma_table_info(?)"
_LISTED = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"


def shown(rows: Iterable[Sequence[Any]], size: int = SHOWN) -> str:
    """Return rows as a list of tuples, cut after ``size`` characters; reads only those shown."""
    text, separator = "[", ""
    for row in rows:
        text += separator + repr(tuple(row))
        separator = ", "
        if len(text) > size:
            break
    return cut(text + "]", size)


def cut(text: str, size: int = SHOWN) -> str:
    """Return the first ``size`` characters, and a mark where there were more."""
    return text if len(text) <= size else text[:size] + "[TRUNCATED]"


def digest(rows: Iterable[Sequence[Any]]) -> str:
    """Return a hash of rows in any order."""
    return hashlib.sha256("\n".join(sorted(repr(tuple(row)) for row in rows)).encode()).hexdigest()


def fingerprint(rows: Sequence[Sequence[Any]]) -> str:
    """Return :func:`digest` and :func:`original_hash` of rows, with a blank between."""
    return f"{digest(rows)} {original_hash(rows)}"


def quoted(name: str) -> str:
    """Return a name as an identifier."""
    return "`" + name.replace("`", "``") + "`"


def uncommented(statement: str) -> str:
    """Return a statement without the comments and blanks before it."""
    found = _COMMENTS.match(statement)
    return statement[found.end() :] if found else statement


def original_hash(rows: Iterable[Sequence[Any]]) -> str:
    """Return AgentBench's hash of rows, in the form of ``answer_md5``: of each row five digits of
    the MD5 of its cells, NULLs left out; of all of them, in order, the first 1024 characters.
    """
    texts = (",".join(_plain(cell) for cell in row if cell is not None) for row in rows)
    parts = sorted(hashlib.md5(text.encode("utf-8", "replace")).hexdigest()[:5] for text in texts)
    found = hashlib.md5(",".join(parts)[:1024].encode()).hexdigest() if parts else None
    return f"[({found!r},)]"


def _plain(cell: Any) -> str:
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)


_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
_REACHING = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_VTABLE)


def guard(database: sqlite3.Connection, reading: bool) -> None:
    """Keep what comes next inside the database: no file, extension or setting, no huge value;
    ``reading`` allows nothing but SELECTs.
    """

    def authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            allowed = second != "load_extension"
        elif reading:
            allowed = action in _READS
        elif action == sqlite3.SQLITE_PRAGMA:
            allowed = first == "table_info"
        else:
            allowed = action not in _REACHING
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.set_authorizer(authorize)


def _bound(database: sqlite3.Connection, steps: int) -> None:
    """Stop the next statement after so many instructions."""
    left = iter(range(steps // 1000))
    database.set_progress_handler(lambda: next(left, None) is None, 1000)


def select(setup: str, query: str) -> str:
    """Return the rows of one SELECT on a fresh in-memory database, as JSON. ``setup`` is a data
    set's own and may run on the host, so it must not reach the host's files either.
    """
    if not query.lstrip().upper().startswith(("SELECT", "WITH")):
        raise ValueError("not a SELECT")
    database = sqlite3.connect(":memory:")
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # also what VACUUM INTO needs
        database.executescript(setup)
        guard(database, reading=True)
        _bound(database, MAX_SELECT_STEPS)
        rows = database.execute(query).fetchmany(MAX_ROWS + 1)
    finally:
        database.close()
    if len(rows) > MAX_ROWS:
        raise ValueError("too many rows")
    return json.dumps(rows, default=lambda value: {"bytes": value.hex()})


# Statements are repeated each round, and a score is the same on any day: none may come out
# differently. (The authorizer is not asked about the defaults of columns.)
_TIMELESS = "the present time and random values are not known here"
_CLOCKS = ("current_date", "current_time", "current_timestamp", "random", "randomblob")
_DATES = {  # which argument is the time; none is the present
    "date": 0,
    "time": 0,
    "datetime": 0,
    "julianday": 0,
    "unixepoch": 0,
    "timediff": 0,
    "strftime": 1,
}
_HERE_AND_NOW = {"now", "subsec", "subsecond", "localtime", "utc"}
_why: list[str] = []  # what the function that failed said: SQLite does not pass it on


def _refuse(*_: Any) -> Any:
    _why.append(_TIMELESS)
    raise ValueError


def _dated(clean: sqlite3.Connection, name: str) -> Any:
    """Return a date function that refuses what depends on when and where it runs."""

    def function(*values: Any) -> Any:
        times = values[_DATES[name] :]
        if not times or any(str(time).lower() in _HERE_AND_NOW for time in times):
            _refuse()
        marks = ", ".join("?" * len(values))
        try:
            return clean.execute(f"SELECT {name}({marks})", values).fetchone()[0]
        except sqlite3.Error as error:
            _why.append(str(error))
            raise

    return function


def _concat(*values: Any) -> str | None:
    return None if None in values else "".join(map(str, values))


def _date_part(start: int, end: int) -> Any:
    def part(date: Any) -> int | None:
        found = re.match(r"\d{4}-\d\d-\d\d", str(date))
        return int(found[0][start:end]) if found else None

    return part


def _regexp(pattern: Any, value: Any) -> bool | None:
    return None if value is None else bool(re.search(str(pattern), str(value), re.IGNORECASE))


_SIMPLE = str.maketrans("øØłŁđĐħĦ", "oollddhh")


@functools.lru_cache(4096)
def folded(text: str) -> str:
    """Return a text as MySQL's default collation compares it: without case and accents."""
    parts = unicodedata.normalize("NFKD", text.translate(_SIMPLE)).casefold()
    return "".join(part for part in parts if not unicodedata.combining(part))


def _compared(first: str, second: str) -> int:
    one, other = folded(first), folded(second)
    return (one > other) - (one < other)


@functools.lru_cache(256)
def _like_pattern(pattern: str, escape: str) -> re.Pattern[str]:
    text, parts = iter(folded(pattern)), []
    for character in text:
        if character == escape:
            parts.append(re.escape(next(text, escape)))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _like(pattern: Any, value: Any, escape: Any = "\\") -> bool | None:
    if pattern is None or value is None:
        return None
    return bool(_like_pattern(str(pattern), str(escape)).fullmatch(folded(str(value))))


_PREFIX = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(\s*\Z)?")


def _number(value: Any) -> Any:
    """Return a value as MySQL compares it with a number: the number that a text begins with."""
    if not isinstance(value, str):
        return value
    found = _PREFIX.match(value)
    return float(found[1]) if found else 0.0


def _strict_number(value: Any) -> Any:
    """Return :func:`_number` of a text that is a number; others end a statement that writes."""
    found = _PREFIX.match(value) if isinstance(value, str) else None
    if isinstance(value, str) and not (found and found[2] is not None):
        _why.append(f"Truncated incorrect DOUBLE value: {value!r}")
        raise ValueError
    return _number(value)


# What models write for MySQL and this library of SQLite may lack.
_FUNCTIONS: dict[str, tuple[int, Any]] = {
    "number": (1, _number),
    "strict_number": (1, _strict_number),
    "concat": (-1, _concat),
    "concat_ws": (-1, lambda by, *values: str(by).join(str(v) for v in values if v is not None)),
    "if": (3, lambda condition, yes, no: yes if condition else no),
    "char_length": (1, lambda text: None if text is None else len(str(text))),
    "locate": (2, lambda part, text: str(text).lower().find(str(part).lower()) + 1),
    "regexp": (2, _regexp),
    "year": (1, _date_part(0, 4)),
    "month": (1, _date_part(5, 7)),
    "day": (1, _date_part(8, 10)),
}


def _opened(table: dict[str, Any]) -> sqlite3.Connection:
    """Return an in-memory database with the table, guarded against what follows."""
    database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    database.execute(f"PRAGMA hard_heap_limit = {MAX_MEMORY}")
    database.execute("PRAGMA temp_store = MEMORY")
    database.create_collation("MYSQL", _compared)
    kinds = {"TEXT": "TEXT COLLATE MYSQL"}
    columns = [f"{quoted(name)} {kinds.get(kind, kind)}" for name, kind in table["columns"]]
    database.execute(f"CREATE TABLE {quoted(table['name'])} ({', '.join(columns)})")
    marks = ", ".join("?" * len(columns))
    database.executemany(f"INSERT INTO {quoted(table['name'])} VALUES ({marks})", table["rows"])
    for name, (arguments, function) in _FUNCTIONS.items():
        database.create_function(name, arguments, function, deterministic=True)
    for count in (2, 3):
        database.create_function("like", count, _like, deterministic=True)
    for name in _CLOCKS:
        for arguments in (0, 1):
            database.create_function(name, arguments, _refuse)
    clean = sqlite3.connect(":memory:")
    for name in _DATES:
        database.create_function(name, -1, _dated(clean, name), deterministic=True)
    guard(database, reading=False)
    return database


def _rows(database: sqlite3.Connection, statement: str) -> Iterable[Sequence[Any]]:
    _bound(database, MAX_STEPS)
    _why.clear()
    statement = uncommented(statement)
    if _TABLES.fullmatch(statement):
        return database.execute(_LISTED)
    if asked := _DESCRIBE.fullmatch(statement):
        return database.execute(_DESCRIBED, (asked["name"],))
    return database.execute(statement)


def run(payload: dict[str, Any]) -> str:
    """Return JSON: the rows of :func:`select` for ``setup`` and ``query``; or, of ``statements`` on
    ``table``, ``ok`` and the last result as text (the table's hash if ``contents``).
    """
    if "query" in payload:
        return select(payload["setup"], payload["query"])
    return _episode(payload)


def _episode(payload: dict[str, Any]) -> str:
    table = payload["table"]
    try:
        database = _opened(table)
    except (sqlite3.Error, OverflowError, MemoryError) as error:
        return json.dumps({"ok": False, "text": f"the table cannot be built: {error}"})
    ok, text = True, ""
    for statement in payload["statements"]:
        try:
            ok, text = True, shown(_rows(database, statement))
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            said = _why[-1] if _why else error or "out of memory"
            ok, text = False, cut(f"Error: {said}")
    if payload["contents"]:
        names = ", ".join(quoted(name) for name, _ in table["columns"])
        try:
            rows = list(_rows(database, f"SELECT {names} FROM {quoted(table['name'])}"))
            ok, text = True, fingerprint(rows)
        except (sqlite3.Error, MemoryError) as error:
            ok, text = False, str(error)
    return json.dumps({"ok": ok, "text": text})
