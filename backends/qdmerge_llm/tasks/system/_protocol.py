"""How the model acts, and what it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SYSTEM = """\
You are an assistant with a shell on a Linux system, where you are root. A user asks for \
something. Each of your turns is one thought and one action. There are three actions.

1. To run a script, which must not wait for input, write:
Think: I look at what is there.

Act: bash

```bash
ls /etc
```
You are then told its output.

2. When you have done what was requested, write:
Think: It is done.

Act: finish

3. When you know the answer to a question, write:
Think: There are 42 of them.

Act: answer(42)
The parentheses hold the answer alone, nothing around it.

You have a few turns only. One turn, one action."""

OUTPUT = "The output of the OS:\n\n"
EMPTY = "The output of the OS is empty."
_CUT = "\n[the output is longer; it was cut here]"
SILENT = "[the command has written nothing for {seconds:g} seconds; it goes on]"
SLOW = "[the command was stopped: it ran for more than {seconds:g} seconds]"


@dataclass(frozen=True)
class Action:
    """What a turn asks for: ``text`` is the script or the answer (None: none was given)."""

    kind: Literal["bash", "finish"]
    text: str | None = None


_ACT = re.compile(r"Act:\s*(.+)")
_BLOCK = re.compile(r"```bash\n(.*?)\n```", re.DOTALL)


def parse(turn: str) -> Action | None:
    """Return the action of a turn as the original reads it: the last ``Act:`` with an action
    counts, all bash blocks (maybe none) are one script, an answer needs parentheses.
    """
    for act in reversed(_ACT.findall(turn)):
        name = act.lower()
        if name.startswith("bash"):
            return Action("bash", "\n\n".join(_BLOCK.findall(turn)))
        if name.startswith("finish"):
            return Action("finish")
        first, last = act.find("("), act.rfind(")")
        if name.startswith("answer") and first >= 0 and last >= 0:
            return Action("finish", act[first + 1 : last])
    return None


def report(output: str, limit: int, note: str = "") -> str:
    """Return the user turn about a script's output, at most ``limit`` characters of it, and a note
    on how it went.
    """
    if len(output) > limit:
        output = output[: limit - 20] + _CUT
    output = f"{output}\n{note}".strip() if note else output
    return f"{OUTPUT}{output}" if output.strip() else EMPTY
