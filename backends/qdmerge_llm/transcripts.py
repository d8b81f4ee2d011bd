"""Conversations of several models about the same problems, as pages to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qdmerge.storage import write_whole
from qdmerge_llm.items import Item
from qdmerge_llm.tasks import Episode, Message

Play = Callable[[np.ndarray, Sequence[Item]], list[Episode]]
"""Plays one model's episodes."""

CONSIDERED = 8
"""Items that are played to find telling ones."""

_LONGEST = 1200  # characters of a turn


def write_transcripts(
    path: Path,
    task: str,
    items: Sequence[Item],
    models: Mapping[str, np.ndarray],
    play: Play,
    shown: int = 2,
) -> Path:
    """Write the conversations of all models about a few items as a Markdown page.

    Items that the last model solves and the first one does not come first: they show what
    merging brought. The page says how many items were considered and how many each model solved.

    Args:
        path: The page.
        task: Name of the task.
        items: Items to choose from; the first :data:`CONSIDERED` are played.
        models: Name to ``(dim,)`` solution; the first one is the base, the last the result.
        play: Plays the episodes of a solution.
        shown: Items that are shown.

    Returns:
        The path of the page.
    """
    considered = items[:CONSIDERED]
    episodes = {name: play(x, considered) for name, x in models.items()}
    first, *_, last = episodes.values()
    gain = [(b.score or 0.0) - (a.score or 0.0) for a, b in zip(first, last, strict=True)]
    order = sorted(range(len(considered)), key=lambda k: (-gain[k], k))[:shown]
    lines = [f"# {task}: the same problems by several models", ""]
    lines += [
        f"- {name}: solves {sum((one.score or 0.0) > 0 for one in played)} of the "
        f"{len(considered)} problems considered"
        for name, played in episodes.items()
    ]
    for k in order:
        lines += ["", f"## {considered[k]['id']}", ""]
        opening = first[k].messages[: _opening(first[k])]
        lines += _turns(opening)
        for name, played in episodes.items():
            score = played[k].score or 0.0
            lines += ["", f"### {name}: {score:g} {played[k].detail}".rstrip(), ""]
            lines += _turns(played[k].messages[len(opening) :])
    write_whole(path, "\n".join([*lines, ""]))
    return path


def _opening(episode: Episode) -> int:
    """Return messages before the model's first turn."""
    roles = [message["role"] for message in episode.messages]
    return roles.index("assistant") if "assistant" in roles else len(roles)


def _turns(messages: Sequence[Message]) -> list[str]:
    """Turn as blocks that show the text as it is, cut when long."""
    lines = []
    for message in messages:
        text = message["content"]
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\n[{len(text)} characters in all]"
        fence = "`" * max(4, 1 + max(map(len, re.findall("`+", text)), default=0))
        lines += [f"**{message['role']}**", "", f"{fence}text", text, fence, ""]
    return lines
