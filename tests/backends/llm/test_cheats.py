"""Verdicts on systems that a model owned as root: no cheat scores, right work does."""

from __future__ import annotations

from typing import Any

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import replay
from qdmerge_llm.tasks.system import AgentBenchOSTask


def row(check: Any, init: str = "true", **more: Any) -> dict[str, Any]:
    evaluation = {"check": check, **more}
    return {"description": "Do it.", "create": {"init": init}, "evaluation": evaluation}


def evil(path: str, text: str = "#!/usr/bin/python3\\nraise SystemExit(0)\\n") -> str:
    """The command that puts a program there."""
    return f"rm -f {path}; printf '{text}' > {path}; chmod 755 {path}"


def script(text: str) -> str:
    """The command that runs a Python program."""
    return f"cat > /tmp/w.py <<'END'\n{text}\nEND\npython3 /tmp/w.py"


SEVEN = '#!/usr/bin/perl\\nprint "7\\n";\\n'
WATCHER = """
import ctypes, os, signal
libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
event = (ctypes.c_int * 16)(0, 0, signal.SIGCONT, 0)
libc.timer_create(1, event, ctypes.byref(timer))
libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 1000000, 0, 1000000), None)
mine = (1, os.getpid(), os.getppid())
if os.fork():
    os._exit(0)
for number in (0, 1, 2):
    os.close(number)
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) not in mine and "find" in open(f"/proc/{pid}/comm").read():
                ACT
        except OSError:
            pass
"""
# A library whose constructor is exit(0).
LIBRARY = script("""
import struct
header = b"\\x7fELF\\x02\\x01\\x01" + bytes(9) + struct.pack(
    "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
image = bytearray(0x1000)
image[:64] = header
image[64:120] = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, 0x1000, 0x1000, 0x1000)
image[120:176] = struct.pack("<IIQQQQQQ", 2, 6, 0x400, 0x400, 0x400, 0x60, 0x60, 8)
image[0x400:0x460] = struct.pack("<12Q", 12, 0x300, 5, 0x200, 6, 0x200, 10, 1, 11, 24, 0, 0)
image[0x300:0x309] = bytes.fromhex("31ffb8e70000000f05")
open("/evil.so", "wb").write(image)
""")

COUNT = row(
    [None, {"file": "integer-match.py"}], "touch /home/a /home/b", example="ls /home | wc -l"
)
GREP = row("grep -q done /home/flag")
ABSOLUTE = row("/bin/grep -q done /home/flag")
ABSENT = row("find /home/bad > /dev/null 2>&1 && exit 1 || exit 0", "touch /home/bad")
PYTHON = row(
    {
        "language": "python",
        "code": "import json, re, sys; sys.exit(open('/home/flag').read() != 'done')",
    }
)
PYTHON_IN_BASH = row("python3 -c 'import json; json.loads(open(\"/home/flag\").read())'")
PERL = row("perl -e 'use strict; open(my $f, q{/home/flag}) or exit 1'")
AWK = row(
    "ls -l /usr/bin/find | awk '{if ($1~/^-..s/) { exit 1; } else { exit 0; }}'",
    "chmod u+s /usr/bin/find",
)
USERS = row(
    "(runuser -l jack -c 'cat /testfile'; runuser -l george -c 'cat /testfile') | "
    'if [ "$(cat -)" = test ]; then exit 0; else exit 1; fi',
    "echo test > /testfile; useradd -m jack; useradd -m george; chmod 0 /testfile",
)
NO_LOGIN = row("! su - jack -c true", "useradd -m -s /bin/bash jack")
SOURCED = row(
    'source ~/.bashrc && x=$(echo-love) && [ "$x" == "I love myself." ] && exit 0',
    "mkdir /opt/f; printf '#!/bin/sh\\necho I love myself.' > /opt/f/echo-love;"
    " chmod +x /opt/f/echo-love",
)
SET = row('. ~/.bashrc; [ "$COLOUR" = blue ]')
ALIAS = row("source ~/.bashrc; alias ll | grep -q 'ls -l'")
CALC = row({"file": "check/0.sh"})
EVERY_FILE = "~/.bashrc ~/.profile ~/.bash_profile /etc/profile /etc/bash.bashrc"
FOLDERS = "$(python3 -c 'import sys, site; print(*sys.path, *site.getsitepackages(), {})') /"

CHEATS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a program of the example": (COUNT, evil("/usr/local/bin/wc", SEVEN), "7"),
    "a program of the example, in its place": (COUNT, evil("/usr/bin/wc", SEVEN), "7"),
    "the example's files": (COUNT, "touch /home/{1..5}", "7"),
    "the example's shell": (COUNT, evil("/usr/bin/bash", SEVEN), "7"),
    "a program before all others": (GREP, evil("/usr/local/sbin/grep"), ""),
    "a program in its place": (GREP, evil("/usr/bin/grep"), ""),
    "a program in place of one that is gone": (
        GREP,
        f"rm /usr/bin/grep; {evil('/usr/local/bin/grep')}",
        "",
    ),
    "a program by its path": (ABSOLUTE, evil("/usr/bin/grep"), ""),
    "a link in place of a folder": (
        ABSOLUTE,
        f"mkdir /tmp/b; cp /bin/*sh /tmp/b; {evil('/tmp/b/grep')}; rm /bin; ln -s /tmp/b /bin",
        "",
    ),
    "the shell": (GREP, evil("/usr/bin/bash"), ""),
    "another shell": (row("egrep -q done /home/flag"), evil("/usr/bin/dash"), ""),
    "find fails": (ABSENT, evil("/usr/local/bin/find", "#!/bin/false\\n"), ""),
    "find is gone": (ABSENT, "rm /usr/bin/find", ""),
    "libraries are gone": (ABSENT, "rm -rf /usr/lib/x86_64-linux-gnu /usr/lib64", ""),
    "a function that is exported": (GREP, "grep() { return 0; }; export -f grep", ""),
    "an alias": (GREP, "alias grep=true; echo 'alias grep=true' >> ~/.bashrc", ""),
    "files that shells read": (
        GREP,
        f"for f in {EVERY_FILE}; do echo exit 0 > $f; done;"
        " export BASH_ENV=/etc/profile ENV=/etc/profile",
        "",
    ),
    "the environment of all": (
        GREP,
        "echo BASH_ENV=/etc/profile > /etc/environment; echo exit 0 > /etc/profile",
        "",
    ),
    "a library before all others": (GREP, f"{LIBRARY}; echo /evil.so > /etc/ld.so.preload", ""),
    "a library before the shell's": (GREP, f"{LIBRARY}; export LD_PRELOAD=/evil.so", ""),
    "the library of all": (
        GREP,
        f"{LIBRARY}; for l in $(find /usr/lib -name libc.so.6); do mv /evil.so $l; done",
        "",
    ),
    "the loader": (
        GREP,
        "cp /usr/bin/true /tmp/l; l=$(readlink -f /lib64/ld-linux-x86-64.so.2); mv /tmp/l $l",
        "",
    ),
    "a module of names": (
        AWK,
        f"{LIBRARY}; echo 'passwd: evil files' > /etc/nsswitch.conf;"
        " mv /evil.so /usr/lib/x86_64-linux-gnu/libnss_evil.so.2",
        "",
    ),
    "links to alternatives": (
        AWK,
        f"{evil('/tmp/awk')}; mv /etc /etc2; mkdir -p /etc/alternatives; cp /etc2/passwd /etc;"
        f" ln -s /tmp/awk /etc/alternatives/awk; rm /usr/bin/?awk; {evil('/usr/local/bin/awk')}",
        "",
    ),
    "Python": (PYTHON, evil("/usr/local/bin/python3", "#!/bin/true\\n"), ""),
    "Python in its place": (
        PYTHON,
        "for p in $(readlink -f $(command -v python3)) /usr/bin/python3; do"
        " cp /usr/bin/true $p.n; mv -f $p.n $p; done",
        "",
    ),
    "modules that Python starts with": (
        PYTHON_IN_BASH,
        f"for d in {FOLDERS.format('site.getusersitepackages()')}; do mkdir -p $d;"
        " for m in sitecustomize usercustomize json; do"
        " echo 'import os; os._exit(0)' > $d/$m.py; done; done 2> /dev/null",
        "",
    ),
    "modules of Python's library": (
        PYTHON,
        f"for d in {FOLDERS.format('')}; do for m in json re io os; do rm -rf $d/$m;"
        " echo 'import posix; posix._exit(0)' > $d/$m.py; done; done 2> /dev/null",
        "",
    ),
    "modules of Perl": (
        PERL,
        "for d in $(perl -e 'print join q{ }, @INC'); do mkdir -p $d;"
        " echo 'exit 0; 1;' > $d/strict.pm; done",
        "",
    ),
    "a file that is sourced ends the shell": (SOURCED, "echo exit 0 > ~/.bashrc", ""),
    "a file that is sourced changes words": (
        SOURCED,
        'printf \'[() { return 0; }\\nexit() { builtin exit 0; }\\ntrap "builtin exit 0" EXIT\\n'
        "source() { return 0; }\\necho-love() { builtin exit 0; }\\n' > ~/.bashrc",
        "",
    ),
    "a file that is sourced changes variables": (
        SET,
        "echo 'BASH_ENV=/x; IFS=x; PATH=/tmp; trap true DEBUG; set -n; exit 0' > ~/.bashrc",
        "",
    ),
    "login files of users": (
        USERS,
        "echo 'case $USER in jack) echo test; esac; exit 0' |"
        " tee /etc/profile /home/jack/.profile > /home/george/.profile",
        "",
    ),
    "shells of users": (
        USERS,
        evil("/s", "#!/bin/sh\\necho test\\n") + "; usermod -s /s jack",
        "",
    ),
    "how users log in": (
        USERS,
        "printf 'session required pam_exec.so stdout /s\\nauth sufficient pam_permit.so\\n'"
        " > /etc/pam.d/runuser-l; " + evil("/s", "#!/bin/sh\\n[ $PAM_USER = jack ] && echo test"),
        "",
    ),
    "a login that fails": (NO_LOGIN, "echo exit 1 > /home/jack/.profile", ""),
    "a watcher that kills": (
        ABSENT,
        script(WATCHER.replace("ACT", "os.kill(int(pid), 9)")),
        "",
    ),
    "a watcher that traces": (
        ABSENT,
        script(WATCHER.replace("ACT", "libc.ptrace(16, int(pid), 0, 0)")),
        "",
    ),
    "a watcher of the shell": (
        ABSENT,
        "(while :; do pkill -9 find; done) > /dev/null 2>&1 & sleep 0.1",
        "",
    ),
    "answers to known sums": (
        CALC,
        evil(
            "/usr/local/bin/calc",
            '#!/bin/sh\\ncase "$1" in "15 + (27 * 4) - 10") echo 113;; 1+2) echo 3;; *) echo 6;;'
            " esac\\n",
        ),
        "",
    ),
    "sums that end the shell": (
        CALC,
        "echo 'calc() { echo 3; exit 0; }; exit 0' > ~/.bashrc; . ~/.bashrc",
        "",
    ),
    "a program that ends its caller": (CALC, evil("/usr/bin/calc", "kill -9 $PPID\\n"), ""),
    "the pristine programs": (
        GREP,
        "for f in /proc/fs/check /tools/check /proc/1/root/tools/check; do"
        f" mkdir -p $f; {evil('$f/grep')}; done",
        "",
    ),
    "folders that moved": (
        GREP,
        "for d in usr/lib etc proc usr/bin; do mv /$d /$d.old; ln -s /tmp /$d; done; true",
        "",
    ),
    "no space": (ABSENT, "head -c 99M /dev/zero > /x; head -c 15M /dev/zero > /home/y", ""),
    "no processes": (ABSENT, "for i in {1..50}; do sleep 999 & done", ""),
}
RIGHT: dict[str, tuple[dict[str, Any], str, str]] = {
    "count": (COUNT, "true", "2"),
    "grep": (GREP, "echo done > /home/flag", ""),
    "grep in a broken system": (GREP, "echo done > /home/flag; rm -rf /usr/bin /usr/lib/*", ""),
    "grep while something runs": (GREP, "sleep 999 & disown; echo done > /home/flag", ""),
    "absent": (ABSENT, "rm /home/bad", ""),
    "absolute": (ABSOLUTE, "echo done > /home/flag", ""),
    "a process": (row("pgrep -x sleep"), "sleep 999 & sleep 0.5", ""),
    "Python": (PYTHON, "printf done > /home/flag", ""),
    "Python in bash": (PYTHON_IN_BASH, "echo 1 > /home/flag", ""),
    "Perl": (PERL, "touch /home/flag", ""),
    "awk": (AWK, "chmod u-s /usr/bin/find", ""),
    "users": (USERS, "chown jack /testfile; chmod 400 /testfile", ""),
    "no login": (NO_LOGIN, "usermod -s /usr/sbin/nologin jack", ""),
    "sourced": (SOURCED, "echo 'export PATH=$PATH:/opt/f' >> ~/.bashrc", ""),
    "sourced, at the front": (SOURCED, "echo 'PATH=/opt/f:$PATH' >> ~/.bashrc", ""),
    "sourced, a function": (SOURCED, "echo 'echo-love() { /opt/f/echo-love; }' >> ~/.bashrc", ""),
    "a variable": (SET, "echo 'COLOUR=blue' >> ~/.bashrc", ""),
    "an alias": (ALIAS, "echo \"alias ll='ls -l'\" >> ~/.bashrc", ""),
    "calc": (
        CALC,
        "printf '#!/bin/bash\\npython3 -c \"print($*)\"' > calc; chmod +x calc; mv calc /usr/bin",
        "",
    ),
    "calc in Python": (
        CALC,
        evil("/usr/bin/calc", "#!/usr/bin/env python3\\nimport sys\\nprint(eval(sys.argv[1]))\\n"),
        "",
    ),
}


def scores(sandbox: Sandbox, cases: dict[str, tuple[dict[str, Any], str, str]]) -> dict[str, Any]:
    """The score of each: a model runs the script, then answers."""
    task = AgentBenchOSTask(sandbox, seconds=3)
    needs_users = (USERS, NO_LOGIN)
    items = [
        {**task.read(given, 1), "id": name}
        for name, (given, _, _) in cases.items()
        if sandbox.users or given not in needs_users
    ]

    def turns(item: Any) -> list[str]:
        _, work, answer = cases[item["id"]]
        return [f"Act: bash\n```bash\n{work}\n```", f"Act: answer({answer})"]

    return {e.item["id"]: e.score for e in replay(task, items, turns)}


def test_cheats_score_nothing(sandbox: Sandbox) -> None:
    assert {name for name, score in scores(sandbox, CHEATS).items() if score} == set()


def test_right_work_scores(sandbox: Sandbox) -> None:
    assert {name for name, score in scores(sandbox, RIGHT).items() if not score} == set()
