"""A MariaDB server of a test session's own, where Debian's binaries are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
USER, PASSWORD = "tester", "p@ss/word"


def missing() -> str | None:
    """Why there can be no server here, or None."""
    for name in ("mariadbd", "mariadb-install-db", "mariadb"):
        if shutil.which(name, path=_PATH) is None:
            return f"no {name}: install Debian's package mariadb-server"
    if importlib.util.find_spec("pymysql") is None:
        return "no PyMySQL: install the extra 'mysql'"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Runs a server; gives the URL of a user who has no rights but those that qdmerge needs.

    That user's password is in ``MYSQL_PWD`` meanwhile.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no waiting for the disk
    with tempfile.TemporaryDirectory(prefix="qdmerge-mariadb-", dir=memory) as folder:
        yield from _serve(Path(folder))


def _serve(folder: Path) -> Iterator[str]:
    own = ["--user=root"] if os.geteuid() == 0 else []
    data, path, log = folder / "data", folder / "s.sock", folder / "log"
    _run(
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *own,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            str(shutil.which("mariadbd", path=_PATH)),
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={path}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            f"--secure-file-priv={folder}",
            f"--log-error={log}",
            *own,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        root = ["mariadb", "--no-defaults", "--user=root", f"--socket={path}", "--execute"]
        deadline = time.monotonic() + 180
        while (probe := _client(*root, "SELECT 1")).returncode:
            told = f"{probe.stderr!r}\n{log.read_text() if log.exists() else ''}"
            assert process.poll() is None, f"the server did not start: {told}"
            assert time.monotonic() < deadline, f"the server does not answer: {told}"
            time.sleep(0.1)
        grant = r"GRANT ALL ON `qdmerge\_%`.* TO "
        for host in ("localhost", "127.0.0.1"):
            who = f"'{USER}'@'{host}'"
            _run(*root, f"CREATE USER {who} IDENTIFIED BY '{PASSWORD}'; {grant}{who}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MYSQL_PWD", PASSWORD)
            yield f"mysql://{USER}@127.0.0.1:{port}/"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _client(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program without the password that the tests of another server may have set."""
    program = shutil.which(name, path=_PATH)
    environment = {key: value for key, value in os.environ.items() if key != "MYSQL_PWD"}
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, env=environment
    )


def _run(name: str, *arguments: str) -> None:
    result = _client(name, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
