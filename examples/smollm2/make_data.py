"""Training conversations and evaluation items of the three skills, with executable ground truth.

Writes, for the skills db, os and coding, ``SKILL-items.jsonl``: problems in the form of AgentBench
and MBPP, each with the ``group`` that decides its split, none of the split "train";
``SKILL-prompts.jsonl``: those of the split "train", for the guide of a search; and
``SKILL-train.jsonl``: conversations about these, in which the gold turns were played through the
very task that the items are scored with. A problem whose text also
stands in a file named by --exclude, or that was drawn before, is left out.

A part of each skill's conversations (--replay) is of the other skills. Experts that have never
seen another skill's protocol destroy it when they are merged.

    python examples/smollm2/make_data.py --out smollm2/data --seed 0 --exclude dbbench-dev.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import _coding
import _db
import _os

from qdmerge.errors import QDMergeError
from qdmerge_llm.items import read_rows, split_of
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import (
    AgentBenchDBTask,
    AgentBenchOSTask,
    Episode,
    EpisodeTask,
    HumanEvalTask,
    MBPPTask,
    replay,
)

Row = dict[str, Any]

SKILLS: dict[str, tuple[Callable[[random.Random], Iterator[Row]], type[EpisodeTask]]] = {
    "db": (_db.problems, AgentBenchDBTask),
    "os": (_os.problems, AgentBenchOSTask),
    "coding": (_coding.problems, MBPPTask),
}
COUNTS = {
    "db": {"train": 900, "validation": 150, "selection": 150, "test": 150},
    "os": {"train": 700, "validation": 120, "selection": 120, "test": 120},
    "coding": {"train": 560, "validation": 150, "selection": 150, "test": 150},
}
"""Rows wanted of each skill and split."""

DRAWS = 60_000
"""Problems drawn before a skill is given up."""
BATCH = 8
"""Episodes played together: each has a system of its own."""


def normalized(row: Row) -> str:
    """The text that is asked, its spelling and layout left out."""
    text = row.get("description") or row["prompt"]
    if "test" in row:  # HumanEval asks within a program
        text = HumanEvalTask.bare_question(row)
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def read_texts(paths: Sequence[Path]) -> set[str]:
    """The normalized texts of the rows of data files."""
    return {normalized(row) for path in paths for _, row in read_rows(path)}


def choose(
    drawn: Iterator[Row], wanted: dict[str, int], taken: set[str]
) -> tuple[list[Row], Counter]:
    """Rows until every split has as many as wanted; also what was left out, and why.

    Args:
        drawn: Rows with a ``group``.
        wanted: Number of rows per split.
        taken: Normalized texts that are not to be used; the chosen ones are added.
    """
    missing, left_out, rows = Counter(wanted), Counter(), []
    for row in islice(drawn, DRAWS):
        split, text = split_of(row["group"]), normalized(row)
        if text in taken:
            left_out["seen before or excluded"] += 1
        elif missing[split] > 0:
            missing[split] -= 1
            taken.add(text)
            rows.append(row | {"split": split})
        if not missing.total():
            break
    left_out |= {f"too few: {split}": n for split, n in missing.items() if n > 0}
    return rows, left_out


def make(skill: str, seed: int, taken: set[str], folder: Path, sandbox: Sandbox) -> dict[str, Any]:
    """Write the three files of a skill; returns what the manifest says of it."""
    problems, kind = SKILLS[skill]
    rows, left_out = choose(problems(random.Random(f"{skill} {seed}")), COUNTS[skill], taken)
    task = kind(sandbox)
    played: list[Episode] = []
    for first in range(0, len(rows), BATCH):
        items = [task.read(row, first + k) for k, row in enumerate(rows[first : first + BATCH])]
        played += replay(task, items, lambda item: item["gold"])
    counts: Counter = Counter()
    with (
        (folder / f"{skill}-items.jsonl").open("w", encoding="utf-8") as items,
        (folder / f"{skill}-prompts.jsonl").open("w", encoding="utf-8") as prompts,
        (folder / f"{skill}-train.jsonl").open("w", encoding="utf-8") as train,
    ):
        for number, (row, episode) in enumerate(zip(rows, played, strict=True)):
            split = row.pop("split")
            row = {"task_id" if skill == "coding" else "id": f"{skill}-{number}"} | row
            del row["gold"]
            if episode.score != 1:
                left_out["gold turns fail"] += 1
                print(f"{skill}: gold turns fail: {normalized(row)}", file=sys.stderr)
                continue
            counts[split] += 1
            if split == "train":
                train.write(
                    json.dumps({"messages": episode.messages, "group": row["group"]}) + "\n"
                )
            (prompts if split == "train" else items).write(json.dumps(row) + "\n")
    return {"rows": dict(counts), "left out": dict(left_out)}


def mix(skills: Sequence[str], share: float, seed: int, folder: Path) -> dict[str, dict[str, int]]:
    """Add conversations of the other skills to each skill's; returns how many, by skill.

    Args:
        skills: The skills whose files there are.
        share: Conversations of each other skill, relative to the skill's own.
        seed: Seed of their choice.
        folder: Where the files are.
    """
    paths = {skill: folder / f"{skill}-train.jsonl" for skill in skills}
    own = {skill: path.read_text("utf-8").splitlines(True) for skill, path in paths.items()}
    added: dict[str, dict[str, int]] = {}
    for skill in skills:
        rng = random.Random(f"{skill} replay {seed}")
        chosen = {
            other: rng.sample(own[other], min(len(own[other]), round(share * len(own[skill]))))
            for other in skills
            if other != skill
        }
        with paths[skill].open("a", encoding="utf-8") as train:
            train.writelines(line for lines in chosen.values() for line in lines)
        added[skill] = {other: len(lines) for other, lines in chosen.items()}
    return added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skills", nargs="+", choices=SKILLS, default=list(SKILLS))
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="rows of AgentBench, MBPP or HumanEval whose texts are not used",
    )
    parser.add_argument(
        "--replay",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="conversations of each other skill, relative to the own; default: %(default)s",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        taken = read_texts(options.exclude)
        manifest: dict[str, Any] = {"seed": options.seed, "excluded texts": len(taken)}
        for skill in options.skills:
            manifest[skill] = make(skill, options.seed, taken, options.out, Sandbox())
            print(f"{skill}: {json.dumps(manifest[skill])}")
        manifest["replay"] = mix(options.skills, options.replay, options.seed, options.out)
    except QDMergeError as error:
        sys.exit(str(error))
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
