"""Items of tasks: read from files, split by content, and kept out of training conversations."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from qdmerge.errors import ConfigError
from qdmerge.storage import parse_json

Split = Literal["train", "validation", "selection", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_UPPER_EDGES: tuple[tuple[float, Split], ...] = (
    (0.60, "train"),
    (0.72, "validation"),
    (0.86, "selection"),
)


def split_of(group: str) -> Split:
    """Return the split of every item that shares ``group``.

    A group names what an item asks for, its wording left out, so that no paraphrase of a training
    item is ever tested on. The SHA-256 of the group, read as a fraction of 2^64, is compared with
    the edges 0.60, 0.72 and 0.86.
    """
    digest = hashlib.sha256(group.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return next((split for edge, split in _UPPER_EDGES if fraction < edge), "test")


Item = Mapping[str, Any]
"""One problem of a task: ``id``, ``prompt``, maybe ``group``, and the fields of its kind."""


class Reader(Protocol):
    """What makes items of rows: a class of :class:`qdmerge_llm.tasks.TaskKind`."""

    def read(self, row: Mapping[str, Any], number: int) -> Item:
        """Return the item of a row."""

    def problem(self, item: Item) -> str | None:
        """Return what is wrong with an item, or None."""


def read_items(path: Path, kind: Reader, left_out: dict[str, str] | None = None) -> list[Item]:
    """Read the items of a data file.

    Args:
        path: JSON lines, one JSON list, or one JSON object; each may be compressed (``.gz``).
        kind: Reads its rows and says what is wrong with them.
        left_out: Receives the name and the fault of each wrong row; None refuses the file.

    Raises:
        ConfigError: The file cannot be read, or a row is wrong; the first such row is named.
    """
    items: list[Item] = []
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(read_rows(path), start=1):
        item, wrong = _item(kind, row, number)
        if wrong is None and item["id"] in seen:
            wrong = f"id '{item['id']}' is that of {seen[item['id']]} already"
        if wrong and left_out is None:
            raise ConfigError(f"{path}, {where}: {wrong}")
        if wrong and left_out is not None:
            left_out[f"item '{item['id']}', {where}" if "id" in item else where] = wrong
            continue
        seen[item["id"]] = where
        items.append(item)
    return items


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each row of a file, and where it stands: "line 3".

    Args:
        path: JSON lines, one JSON list, or one JSON object; each may be compressed (``.gz``).

    Raises:
        ConfigError: The file cannot be read, or a row is not JSON.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    found: Any = None
    try:
        found = parse_json(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise ConfigError(f"{path}: not JSON ({error})") from error
    if isinstance(found, list) or (isinstance(found, dict) and "\n" in text.strip()):
        rows = found if isinstance(found, list) else [found]
        yield from ((f"entry {number}", row) for number, row in enumerate(rows, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                raise ConfigError(f"{path}, line {number}: not JSON ({error})") from error
            yield f"line {number}", row


def _item(kind: Reader, row: Any, number: int) -> tuple[Item, str | None]:
    """Return the item of a row, and what is wrong with it."""
    if not isinstance(row, dict):
        return {}, "expected an object in braces"
    try:
        item = kind.read(row, number)
        return item, _common_problem(item) or kind.problem(item)
    except KeyError as error:
        return {}, f"field {error} is missing"
    except (ConfigError, AttributeError, TypeError, ValueError) as error:
        return {}, str(error)


def _common_problem(item: Item) -> str | None:
    for field in ("id", "prompt"):
        if not isinstance(item.get(field), str):
            return f"'{field}' must be text"
    if not isinstance(item.get("group", ""), str):
        return "'group' must be text"
    return None


def split_items(
    items: Iterable[Item],
    counts: Mapping[str, int | None],
    whole: bool = False,
    missing: int = 0,
) -> dict[str, list[Item]]:
    """Return the items of each split, disjoint by content.

    An item's split follows from its ``group`` (its prompt where it has none). Of each split the
    first ``counts[split]`` items are taken in the order of the SHA-256 of their id.

    Args:
        items: All items of a file.
        counts: Items wanted per split; None for all there are.
        whole: Whether all items of the file belong to the one split of ``counts``.
        missing: How many items a split may have less than asked for, but not none.

    Raises:
        ConfigError: A split has fewer items than asked for, or two splits share a prompt.
    """
    found: dict[str, list[Item]] = {split: [] for split in counts}
    for item in items:
        split = next(iter(counts)) if whole else split_of(item.get("group", item["prompt"]))
        found.get(split, []).append(item)
    short = []
    for split, count in counts.items():
        found[split].sort(key=lambda item: hashlib.sha256(item["id"].encode()).digest())
        if len(found[split]) < max(1, (count or 1) - missing):
            short.append(f"{split} {len(found[split])} of {1 if count is None else count}")
        found[split] = found[split][:count]
    check_disjoint(found)
    if short:
        raise ConfigError(f"too few items: {', '.join(short)}; give more data or ask for fewer")
    return found


def check_disjoint(splits: Mapping[str, Sequence[Item]]) -> None:
    """Check that no prompt and no group is in two splits.

    Raises:
        ConfigError: One is.
    """
    advice = {
        "prompt": "give them one group, so that they fall into one split",
        "group": "they ask for the same; leave one of them out",
    }
    owner: dict[tuple[str, str], tuple[str, str]] = {}
    for split, items in splits.items():
        for item in items:
            for field in (field for field in advice if field in item):
                key = (field, item[field])
                other, other_id = owner.setdefault(key, (split, item["id"]))
                if other != split:
                    raise ConfigError(
                        f"items '{other_id}' ({other}) and '{item['id']}' ({split}) have the same "
                        f"{field}: {advice[field]}"
                    )


def shared_item(
    items: Iterable[Item], others: Iterable[Item], fields: Sequence[str]
) -> tuple[str, str] | None:
    """Return the ids of the first item that shares a field with another one, and of that one."""
    ids = {(field, o[field]): o["id"] for o in others for field in fields if field in o}
    found = (
        (item["id"], ids[field, item[field]])
        for item in items
        for field in fields
        if field in item and (field, item[field]) in ids
    )
    return next(found, None)


def content_hash(content: object) -> str:
    """Return a hash of items in their order, or of other JSON-able content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_SHORTEST = 12  # letters and digits; shorter questions would be found in anything
# A question stands by itself where it begins and ends as a sentence or a line does. A longer
# sentence ("... in /root/work of less than 10 bytes") asks for something else.
_BEGIN = r"(?:^|[^\w\s,])\s*"
_END = r"(?=[^\w\n,]*(?:\n|\Z)|[ ]*[.?!:;)\]\"'`*]+(?:\s|\Z))"


def leaked_items(conversations: Path, questions: Mapping[str, str]) -> list[str]:
    """Return the items whose question is in a user turn of the training conversations.

    It is found with other text before and behind it, but not as a part of a longer sentence. Case,
    spaces and punctuation within it do not count.

    Args:
        conversations: Rows with ``messages``, in a form of :func:`read_rows`.
        questions: What items ask for (``TaskKind.bare_question``), by the items' names.

    Raises:
        ConfigError: The file cannot be read.
    """
    turns = {turn: _plain(turn) for turn in _user_turns(conversations)}
    everything = "\n".join(turns.values())  # one search instead of one for each turn
    found = []
    for name, question in questions.items():
        plain = _plain(question)
        if len(plain) >= _SHORTEST and plain in everything:
            holding = (turn for turn, text in turns.items() if plain in text)
            if _asked(plain, holding):
                found.append(name)
    return found


def _asked(plain: str, turns: Iterable[str]) -> bool:
    pattern = re.compile(_BEGIN + r"\W*".join(plain) + _END, re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(turn) for turn in turns)


def _user_turns(path: Path) -> list[str]:
    rows = [row for _, row in read_rows(path)]
    try:
        turns = [m["content"] for row in rows for m in row["messages"] if m["role"] == "user"]
        return sorted(set(turns))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as conversations, rows with 'messages' ({error!r})"
        ) from error


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()
