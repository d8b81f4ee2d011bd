"""A MySQL or MariaDB server over a URL."""

from __future__ import annotations

import atexit
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from qdmerge.errors import ConfigError, EvaluationError
from qdmerge_llm.tasks.database._engine import Engine, Reply, Table, UnfitTableError
from qdmerge_llm.tasks.database._program import cut, fingerprint, quoted, shown, uncommented

_PREFIX = "qdmerge"
_SECONDS = 5  # of one statement
_BOUND = f"max_statement_time = {_SECONDS}"
_BOUND_MYSQL = f"max_execution_time = {_SECONDS}000"
_READ_SECONDS = 20  # until a server that does not stop it is left
_LOST = (1053, 1927, 2006, 2013, 2055)  # codes: the server goes, or ended the connection
_MAX_ROWS = 100_000  # of a table that is compared
_TYPES = {"TEXT": "TEXT", "INTEGER": "BIGINT", "REAL": "DOUBLE"}
# Statements that begin otherwise (USE, SET, PREPARE, CALL, GRANT, LOAD, KILL, ...) have no part in
# any problem; they reach beyond the problem's own tables, or hide other statements in text.
_ALLOWED = re.compile(
    r"[\s(]*(SELECT|WITH|INSERT|UPDATE|DELETE|REPLACE|SHOW|DESC|DESCRIBE|EXPLAIN|TRUNCATE"
    r"|ALTER\s+TABLE|DROP\s+(TABLE|VIEW|INDEX)"
    r"|CREATE\s+(OR\s+REPLACE\s+)?((TEMPORARY\s+)?TABLE|VIEW|(UNIQUE\s+)?INDEX))\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(rf"\b(outfile|dumpfile|load_file|{_PREFIX}_[0-9a-f]+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Session:
    database: str
    table: Table


class MySQLEngine(Engine):
    r"""Databases on a server, one for each problem, dropped when the episode ends.

    The databases are named ``qdmerge_TOKEN_NUMBER``. A process holds a lock of the server by the
    name of its token while it lives; each new engine drops the databases whose owner is gone, so
    those of a killed run last until the next. Each statement has a connection of its own, as in
    the original.

    The server is not part of the sandbox: what a model writes runs there with the rights of the
    user. Give one that has none but on these databases:
    ``GRANT ALL ON `qdmerge\_%`.* TO user``. Statements that are not about tables are refused, and
    so are those that name files or databases of qdmerge.

    Args:
        url: ``mysql://user@host:port/``, characters outside of a URL's as ``%XX``. The password is
            that of the environment variable ``MYSQL_PWD``: URLs are written into runs.
            ``?unix_socket=PATH`` connects to a socket.

    Raises:
        ConfigError: The URL is of another form, PyMySQL is not installed, or the server refuses.
    """

    def __init__(self, url: str) -> None:
        self._library, self._arguments = connector(url)
        self._tls: dict[str, Any] = {}
        self._connection: Any = None
        self._pid = os.getpid()
        self._token = secrets.token_hex(6)
        self._count = 0
        self._open: set[str] = set()
        try:
            self._sweep()
        except self._library.Error as error:
            raise ConfigError(f"the database server refuses: {_message(error)}") from error
        atexit.register(self._leave)

    def open(self, table: Table) -> _Session:
        """Create a database with the table.

        Raises:
            UnfitTableError: The server cannot hold the table.
            EvaluationError: The server is gone.
        """
        try:
            self._admin("DO 0")  # settles whose token it is
        except self._library.Error as error:
            raise _unreachable(error) from error
        self._count += 1
        name = f"{_PREFIX}_{self._token}_{self._count}"
        try:
            self._fill(name, table)
        except BaseException:
            self._drop(name)
            raise
        return _Session(name, table)

    def execute(self, orders: Sequence[tuple[_Session, str]]) -> list[Reply]:
        """Execute a statement in each session, one after the other.

        Raises:
            EvaluationError: The server is gone.
        """
        return [self._execute(session, statement) for session, statement in orders]

    def contents(self, sessions: Sequence[_Session]) -> list[str | None]:
        """Return hashes of the sessions' tables.

        Raises:
            EvaluationError: The server is gone.
        """
        return [self._contents(session) for session in sessions]

    def close(self, session: _Session) -> None:
        """Drop the session's database."""
        self._drop(session.database)

    def _fill(self, name: str, table: Table) -> None:
        """Create a database of a name with a table."""
        columns = ", ".join(f"{quoted(column)} {_TYPES[kind]}" for column, kind in table.columns)
        marks = ", ".join(["%s"] * len(table.columns))
        try:
            self._admin(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            self._open.add(name)
            with closing(self._connected(name)) as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE TABLE {quoted(table.name)} ({columns})")
                if table.rows:
                    into = quoted(table.name).replace("%", "%%")
                    cursor.executemany(f"INSERT INTO {into} VALUES ({marks})", table.rows)
        except self._library.Error as error:
            self._blame(error)
            raise UnfitTableError(
                f"the database server cannot hold table '{table.name}': {_message(error)}"
            ) from error

    def _execute(self, session: _Session, statement: str) -> Reply:
        if not _ALLOWED.match(uncommented(statement)) or _REFUSED.search(statement):
            return Reply("Error: this statement is not allowed", False)
        with closing(self._connected(session.database)) as connection:
            # Rows are read as they come, and no more than are shown.
            cursor = connection.cursor(self._library.cursors.SSCursor)
            try:
                cursor.execute(statement)
                text = shown(tuple(map(_value, row)) for row in cursor)
                cursor._result.unbuffered_active = False  # closing must not read the rest
                return Reply(text, True)
            except (self._library.Error, ValueError, OverflowError) as error:
                self._blame(error)
                return Reply(cut(f"Error: {_message(error)}"), False)
            finally:
                self._stop(connection.thread_id())

    def _stop(self, thread: int) -> None:
        """End a connection on the server's side, and what it still sends or does."""
        with suppress(self._library.Error):
            self._admin(f"KILL {thread}")

    def _contents(self, session: _Session) -> str | None:
        names = ", ".join(quoted(name) for name, _ in session.table.columns)
        query = f"SELECT {names} FROM {quoted(session.table.name)} LIMIT {_MAX_ROWS + 1}"
        with closing(self._connected(session.database)) as connection:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(query)
                    rows = cursor.fetchall()
            except self._library.Error as error:
                self._blame(error)
                return None
        return fingerprint(rows) if len(rows) <= _MAX_ROWS else None

    def _blame(self, error: Exception) -> None:
        """Return if an error is the statement's own; EvaluationError if the connection is gone."""
        if error.args[:1] and error.args[0] in _LOST:
            if not isinstance(error.__context__, TimeoutError):
                raise _unreachable(error) from error
            self._connected(None).close()  # the statement took too long if the server is there

    def _connected(self, database: str | None) -> Any:
        """Return a new connection; EvaluationError if there is none to be had."""
        try:
            return self._connect(database)
        except self._library.Error as error:
            raise _unreachable(error) from error

    def _connect(self, database: str | None) -> Any:
        connection = self._library.connect(
            database=database,
            charset="utf8mb4",
            autocommit=True,
            local_infile=False,
            connect_timeout=10,
            read_timeout=_READ_SECONDS,
            write_timeout=_READ_SECONDS,
            **self._arguments,
            **self._tls,
        )
        maria = "maria" in connection.get_server_info().lower()
        bound = _BOUND if maria else _BOUND_MYSQL
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {bound}")
        return connection

    def _admin(self, statement: str) -> list[Any]:
        """Execute a statement on the connection that holds this process's lock."""
        if not self._alive():
            self._connection, self._pid = self._connect(None), os.getpid()
            if not self._tls:  # reading the system's certificates anew takes longer than the rest
                (_, cipher), *_ = self._ask("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
                self._tls = {"ssl": self._connection.ctx} if cipher else {"ssl_disabled": True}
            self._ask(f"SELECT GET_LOCK('{_PREFIX}_{self._token}', 0)")
        return self._ask(statement)

    def _alive(self) -> bool:
        """Return whether the connection is this process's own, and the server has not ended it."""
        if self._pid != os.getpid():  # a fork: the databases and the lock are its parent's
            self._token, self._open = secrets.token_hex(6), set()
            return False
        try:
            self._connection.ping(reconnect=False)
        except (AttributeError, self._library.Error):
            return False
        return True

    def _ask(self, statement: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _sweep(self) -> None:
        """Drop the databases of processes that are gone."""
        for (name,) in self._admin(rf"SHOW DATABASES LIKE '{_PREFIX}\_%'"):
            lock = re.fullmatch(rf"({_PREFIX}_[0-9a-f]{{12}})_\d+", name)
            if lock and self._admin(f"SELECT IS_FREE_LOCK('{lock[1]}')") == [(1,)]:
                self._admin(f"DROP DATABASE IF EXISTS {name}")

    def _drop(self, name: str) -> None:
        with suppress(self._library.Error):  # else the next engine's sweep finds it
            self._admin(f"DROP DATABASE IF EXISTS {name}")
            self._open.discard(name)

    def _leave(self) -> None:
        if self._pid == os.getpid():
            for name in list(self._open):
                self._drop(name)


def connector(url: str) -> tuple[Any, dict[str, Any]]:
    """Return PyMySQL and its connection arguments, without connecting; ConfigError if it is not
    installed, or the URL is of another form or has a password.
    """
    try:
        library = import_module("pymysql")
    except ImportError as error:
        raise ConfigError(
            "a database task on MySQL needs PyMySQL: pip install 'qdmerge[mysql]'"
        ) from error
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, 3306 if parts.port is None else parts.port
        known = parts.path in ("", "/") and not parts.fragment and port > 0
    except ValueError:
        known = False
    options = parse_qs(parts.query) if known else {}
    socket = options.pop("unix_socket", [None])[0]
    if not known or options or not parts.username or not (host or socket):
        raise ConfigError(
            "the URL of a database server is mysql://user@host:port/ with nothing after it but "
            "?unix_socket=PATH; characters such as @ or / in a name are written as %XX"
        )
    if parts.password is not None:
        raise ConfigError(
            "the URL of a database server must not hold a password, for it is written into runs: "
            "put it into the environment variable MYSQL_PWD"
        )
    arguments = {
        "host": host or "localhost",
        "port": port,
        "user": unquote(parts.username),
        "password": os.environ.get("MYSQL_PWD", ""),
    }
    return library, arguments | ({"unix_socket": socket} if socket else {})


def _message(error: Exception) -> str:
    """Return a driver's error: its code and text."""
    return ": ".join(map(str, error.args)) or type(error).__name__


def _unreachable(error: Exception) -> EvaluationError:
    return EvaluationError(f"the database server cannot be reached: {_message(error)}")


def _value(value: Any) -> Any:
    """Return a value as SQLite would give it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (date, datetime, time, timedelta)):
        return str(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
