from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdmerge.errors import EvaluationError, UnsupportedError
from qdmerge_llm.sandbox import Limits, Sandbox, Session
from tests.backends.llm.test_hostile import namespace, runs

MIB = 1 << 20


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[Session]:
    with sandbox.session() as session:
        yield session


def living(inside: str) -> list[str]:
    """What runs in a process namespace."""
    return [p for p in os.listdir("/proc") if p.isdigit() and namespace(p) == inside and runs(p)]


def said(session: Session, command: str) -> str:
    return session.bash(command).stdout.decode()


def test_commands_share_files_directory_variables_and_processes(session: Session) -> None:
    assert said(session, "pwd; whoami; x=3; cd /tmp; touch a; sleep 60 & echo $?") == "/\nroot\n0\n"
    assert said(session, "echo $x; pwd; ls; jobs | wc -l") == "3\n/tmp\na\n1\n"
    assert session.run(["pgrep", "sleep"]).status == 0
    result = session.run(["sh", "-c", "pwd; ls /tmp; echo problem >&2; exit 7"])
    assert (result.stdout, result.stderr, result.status) == (b"/\na\n", b"problem\n", 7)


def test_outputs_come_together_as_written(session: Session) -> None:
    result = session.bash("echo a; echo b >&2; echo c; false")
    assert (result.stdout, result.stderr, result.status) == (b"a\nb\nc\n", b"", 1)
    assert session.bash("printf '\\xff\\x00\\xfe'").stdout == b"\xff\x00\xfe"
    assert session.bash("cat").stdout == b""  # nothing to read
    assert b"syntax error" in session.bash("if (").stdout
    assert said(session, "echo 'ä\n\"$HOME\"'") == 'ä\n"$HOME"\n'


@pytest.mark.parametrize("command", ["exit 3", "kill -9 $$", "exec false", "kill -9 -1", "break"])
def test_a_shell_that_ends_is_replaced(session: Session, command: str) -> None:
    session.bash("touch /home/kept")
    session.bash(command)
    assert said(session, "ls /home; pwd") == "kept\n/\n"


def test_a_slow_command_is_ended_with_all_it_started(session: Session) -> None:
    session.bash("sleep 61 &")
    result = session.bash("echo begun; setsid sleep 62 & sleep 63", wall=0.3)
    assert result.timed_out
    assert result.stdout == b"begun\n"
    assert said(session, "pgrep -af ^sleep").split(maxsplit=1)[1] == "sleep 61\n"
    assert session.run(["sleep", "60"], wall=0.3).timed_out


def test_output_is_cut_and_said_so(sandbox: Sandbox) -> None:
    with sandbox.session(Limits(output=1000)) as session:
        result = session.bash("yes")
        assert result.truncated
        assert len(result.stdout) == 1000
        assert session.run(["yes"]).truncated
        assert not session.bash("echo x").truncated


@pytest.mark.parametrize(
    ("code", "total", "reason"),
    [
        (
            "import os, time\nfor _ in range(90): os.fork() or time.sleep(60)",
            4096 * MIB,
            "too many processes",
        ),
        ("import time; x = b'x' * (150 << 20); time.sleep(60)", 100 * MIB, "too much memory"),
    ],
)
def test_a_session_ends_when_all_together_use_too_much(
    sandbox: Sandbox, code: str, total: int, reason: str
) -> None:
    with sandbox.session(Limits(total=total)) as session:
        # Also while no command runs. Where a user namespace bounds processes, that comes first.
        session.bash(f'python3 -c "{code}" > /dev/null 2>&1 &')
        if sandbox.users or "memory" in reason:
            deadline = time.monotonic() + 30
            while not (result := session.bash("echo x")).exceeded:
                assert time.monotonic() < deadline, "the session goes on"
                time.sleep(0.3)
            assert (result.exceeded, result.stdout, result.status) == (reason, b"", 137)
            assert session.over == reason
            assert session.run(["true"]).exceeded == reason


def test_limits_of_each_command(sandbox: Sandbox) -> None:
    limits = Limits(cpu=1, memory=100 * MIB, disk=4 * MIB, file_size=2 * MIB)
    with sandbox.session(limits) as session:
        assert session.bash("python3 -c 'while True: pass'").status > 128
        assert "MemoryError" in said(session, "python3 -c 'bytearray(200 << 20)'")
        assert "too large" in said(session, "head -c 3M /dev/zero > a")
        places = "/root /usr /etc /tmp /var /home"
        full = said(session, f"for d in {places}; do head -c 1M /dev/zero > $d/b; done; df /usr")
        assert "No space left" in full
        assert "No space left" in said(session, "for i in {1..9999}; do echo > /home/$i; done")


def test_the_system_is_a_fixed_one_and_writable(session: Session) -> None:
    assert said(session, "ls -A /home /opt /srv /mnt") == "/home:\n\n/mnt:\n\n/opt:\n\n/srv:\n"
    assert (
        said(session, "getent passwd | wc -l; getent group | wc -l; hostname")
        == "18\n38\nsandbox\n"
    )
    assert (
        said(session, "echo x > /usr/x; cat /usr/x; rm /usr/bin/env; ls /usr/bin/env 2>&1 | wc -l")
        == "x\n1\n"
    )
    assert os.path.exists("/usr/bin/env")
    assert not os.path.exists("/usr/x")
    assert said(session, "python3 -c 'print(1 + 1)'") == "2\n"
    assert said(session, "stat -c '%a' /root /tmp /var /etc/shadow") == "700\n1777\n755\n640\n"


def test_nothing_of_the_hosts_environment_counts(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "37")
    monkeypatch.setenv("MY_SECRET", "hunter2")
    with sandbox.session() as session:
        assert int(said(session, "nproc")) == len(os.sched_getaffinity(0))
        assert "hunter2" not in said(session, "env; cat /proc/*/environ")


def test_limits_are_those_of_a_container(session: Session) -> None:
    assert said(session, "ulimit -n; ulimit -Hn") == "1024\n4096\n"
    code = "files = [open('/dev/null') for _ in range(1000)]; print(len(files))"
    assert said(session, f'python3 -c "{code}"') == "1000\n"


def test_the_file_systems_are_a_containers(session: Session) -> None:
    assert said(session, "stat -c %a / /usr /etc /home /var/lib; df --output=fstype / /usr") == (
        "755\n755\n755\n755\n755\nType\ntmpfs\noverlay\n"
    )
    assert said(session, "ls -d /system /tools /layers 2>&1 | grep -c 'No such'") == "3\n"


def test_equal_files_have_equal_digests(sandbox: Sandbox) -> None:
    made = "useradd -m jack; echo x > /usr/x; ln -s /usr/x /home/l; rm /usr/bin/env; mkdir /home/d"
    digests = []
    for more in ("", "", "echo y > /usr/x", "chmod 600 /usr/x", "chown 7 /home/d", "touch /home/e"):
        with sandbox.session() as session:
            session.bash(f"{made}; {more}")
            digests.append(session.files())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_users(sandbox: Sandbox, session: Session) -> None:
    if not sandbox.users:
        pytest.skip("root is the only user in a user namespace")
    made = said(
        session, "useradd -m -s /bin/bash -G sudo jack && su - jack -c 'id -un; pwd; groups'"
    )
    assert made == "jack\n/home/jack\njack sudo\n"
    secret = "echo x > s; chmod 600 s; chown daemon s; su jack -c 'cat s'; stat -c %U s"
    assert said(session, f"cd /tmp; {secret}") == "cat: s: Permission denied\ndaemon\n"


def test_root_keeps_few_rights(session: Session) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in said(session, "cat /proc/self/status").splitlines()
        if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0xFB
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_closed_session_leaves_nothing(sandbox: Sandbox) -> None:
    session = sandbox.session()
    session.bash("sleep 60 & setsid sleep 60 & disown -a")
    inside = namespace(session._first or 0)
    assert inside
    session.close()
    session.close()
    assert session.bash("true").exceeded == "it was closed"
    assert not [
        p for p in os.listdir("/proc") if p.isdigit() and namespace(p) == inside and runs(p)
    ]


PARENT = """
import os, sys, time
from qdmerge_llm.sandbox import Sandbox
session = Sandbox().session()
session.bash("sleep 600 & setsid sleep 600 &")
print(os.readlink(f"/proc/{session._first}/ns/pid"), flush=True)
session.bash("sleep 600", wall=600)
"""


def test_a_killed_evaluation_leaves_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        inside = parent.stdout.readline().strip()
        assert inside.startswith("pid:")
        time.sleep(0.2)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while living(inside):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert Path("/proc/self/mounts").read_text() == mounts
    assert list(tmp_path.iterdir()) == []


def test_without_a_sandbox_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    with pytest.raises(UnsupportedError, match="as root, so only in a sandbox, and no bwrap"):
        Sandbox(allow_unsandboxed=True).session()


def test_a_session_that_cannot_start_is_an_error(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"_supervisor": b"def main(): raise OSError('no room')"}
    monkeypatch.setattr("qdmerge_llm.sandbox._session._MODULES", broken)
    with pytest.raises(EvaluationError, match=r"did not start: .*no room"):
        sandbox.session()
