"""Items of tasks: JSON lines in, one list per split out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qdmerge.errors import ConfigError
from qdmerge_llm.splits import split_of

Item = Mapping[str, Any]


def read_items(path: Path, problem: Callable[[Item], str | None]) -> list[Item]:
    """Reads the items of a JSON lines file.

    Args:
        path: File with one object per line; each has the strings ``id`` (unique) and ``prompt``,
            and may have ``group``.
        problem: Says what is wrong with the other fields of an item, or None.

    Raises:
        ConfigError: The file cannot be read, or a line is wrong; the first such line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not JSON ({error})") from error
        wrong = _common_problem(item) or problem(item)
        if wrong is None and item["id"] in seen:
            wrong = f"id '{item['id']}' is that of line {seen[item['id']]} already"
        if wrong:
            raise ConfigError(f"{path}, line {number}: {wrong}")
        seen[item["id"]] = number
        items.append(item)
    return items


def _common_problem(item: Any) -> str | None:
    if not isinstance(item, dict):
        return "expected an object in braces"
    for field in ("id", "prompt"):
        if not isinstance(item.get(field), str):
            return f"'{field}' must be text"
    if not isinstance(item.get("group", ""), str):
        return "'group' must be text"
    return None


def split_items(items: Iterable[Item], counts: Mapping[str, int]) -> dict[str, list[Item]]:
    """The items of each split, disjoint by content.

    An item's split follows from its ``group`` (its prompt where it has none). Of each split the
    first ``counts[split]`` items are taken in the order of the SHA-256 of their id.

    Raises:
        ConfigError: A split has fewer items than asked for, or two splits share a prompt.
    """
    found: dict[str, list[Item]] = {split: [] for split in counts}
    for item in items:
        found.get(split_of(item.get("group", item["prompt"])), []).append(item)
    short: list[str] = []
    owner: dict[str, tuple[str, str]] = {}
    for split, count in counts.items():
        found[split].sort(key=lambda item: hashlib.sha256(item["id"].encode()).digest())
        if len(found[split]) < count:
            short.append(f"{split} {len(found[split])} of {count}")
        del found[split][count:]
        for item in found[split]:
            other, other_id = owner.setdefault(item["prompt"], (split, item["id"]))
            if other != split:
                raise ConfigError(
                    f"items '{other_id}' ({other}) and '{item['id']}' ({split}) have the same "
                    "prompt: give them one group, so that they fall into one split"
                )
    if short:
        raise ConfigError(f"too few items: {', '.join(short)}; give more data or ask for fewer")
    return found


def content_hash(items: Sequence[Item]) -> str:
    """A hash of items in their order, for a run's log."""
    text = json.dumps(items, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
