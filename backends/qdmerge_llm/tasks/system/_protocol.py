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
_SLOW = "[the command was stopped: it ran for more than {seconds:g} seconds]"


@dataclass(frozen=True)
class Action:
    """What a turn asks for: ``text`` is the script or the answer (None: none was given)."""

    kind: Literal["bash", "finish"]
    text: str | None = None


_ACT = re.compile(r"Act:\s*(.+)")
_BLOCK = re.compile(r"```bash\r?\n(.*?)\r?\n?```", re.DOTALL)


def parse(turn: str) -> Action | None:
    """Return the action of a turn as the original reads it: the last ``Act:`` with an action
    counts, all bash blocks are one script, an answer fills its line's outermost parentheses.
    """
    for act in reversed(_ACT.findall(turn)):
        name = act.strip().strip("*`").lower()
        if name.startswith("bash"):
            blocks = _BLOCK.findall(turn)
            return Action("bash", "\n\n".join(blocks)) if blocks else None
        if name.startswith("finish"):
            return Action("finish")
        if name.startswith("answer"):
            first, last = act.find("("), act.rfind(")")
            return Action("finish", act[first + 1 : last] if 0 <= first < last else "")
    return None


def report(output: str, limit: int, stopped_after: float | None) -> str:
    """Return the user turn about a script's output, at most ``limit`` characters of it."""
    if len(output) > limit:
        output = output[: limit - 20] + _CUT
    if stopped_after is not None:
        output = f"{output}\n{_SLOW.format(seconds=stopped_after)}".lstrip()
    return f"{OUTPUT}{output}" if output.strip() else EMPTY
