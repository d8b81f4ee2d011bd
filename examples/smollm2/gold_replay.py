"""Plays the reference answers of data files as if a model had given them, and prints a table each.

A row that does not score 1 is listed with the reason. For AgentBench's database problems a second
line says how many of the questions' own queries (``sql.query``) give the label.

    python examples/smollm2/gold_replay.py agentbench_db dbbench-dev.jsonl --option types=numeric
    python examples/smollm2/gold_replay.py humaneval HumanEval.jsonl.gz
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qdmerge.errors import ConfigError, QDMergeError
from qdmerge_llm.items import Item, read_items
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import KINDS, AgentBenchDBTask, EpisodeTask, replay
from qdmerge_llm.tasks.database import parse_values, same_answer


def table(task: EpisodeTask, path: Path) -> str:
    left_out: dict[str, str] = {}
    items = read_items(path, type(task), left_out)
    wrong = task.unusable(items)
    left_out |= {f"item '{name}'": reason for name, reason in wrong.items()}
    items = [item for item in items if item["id"] not in wrong]
    replay(task, items[:1])  # the first sandbox of a process takes longer
    start = time.perf_counter()
    results = replay(task, items)
    each = (time.perf_counter() - start) / max(1, len(items))
    passed = sum(one.score == 1 for one in results)
    lines = [
        f"{path.name}: {passed} of {len(items)} rows pass, {1000 * each:.0f} ms each",
        "",
        "| row | score | reason |",
        "|---|---|---|",
        *(f"| {e.item['id']} | {e.score:g} | {e.detail} |" for e in results if e.score != 1),
    ]
    if passed == len(items):
        del lines[1:]
    lines += [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    lines += task.remarks(items)
    if isinstance(task, AgentBenchDBTask):
        lines += ["", queries(task, items)]
    return "\n".join(lines)


def queries(task: EpisodeTask, items: Sequence[Item]) -> str:
    asked = [
        item for item in items if "sql" in item and item["type"][0] not in ("INSERT", "UPDATE")
    ]

    def turns(item: Item) -> list[str]:  # then nothing, which ends the episode
        return [f"Action: Operation\n```sql\n{item['sql']['query']}\n```"]

    right = 0
    for episode in replay(task, asked, turns):
        shown = next(m["content"] for m in episode.messages[::-1] if m["role"] == "user")
        # "none" is the label of questions that nothing answers.
        values = ["none"] if shown == "[]" else parse_values(shown)
        right += same_answer(values, episode.item["label"])
    return f"own queries that give the label: {right} of {len(asked)} questions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", help="task kind: mbpp, humaneval, agentbench_db, agentbench_os")
    parser.add_argument("files", nargs="+", type=Path, help="data files of this kind")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    try:
        options = dict(option.split("=", 1) for option in given.option)
        task = KINDS.build(given.kind, options, {"sandbox": Sandbox()})
        if not isinstance(task, EpisodeTask):
            raise ConfigError(f"'{given.kind}' has no reference answers to play")
        print("\n\n".join(table(task, path) for path in given.files))
    except ValueError:
        sys.exit("--option takes NAME=VALUE")
    except QDMergeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
