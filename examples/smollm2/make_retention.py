"""Two small tasks of general language ability, to see what fine-tuning and merging cost elsewhere.

Both come from WordNet 3.0 (Princeton University; free to use, copy and modify), as the Debian
package wordnet-base installs it, and need no model hub:

- ``wordnet_definitions``: which of four words a definition is of;
- ``wordnet_sentences``: which of four words stands in an example sentence.

The wrong words are of the same part of speech and about as common. Each task is a YAML file of
lm-eval with its data beside it, for the task kind ``lm_eval``:

    python examples/smollm2/make_retention.py --out smollm2/retention
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDNET = Path("/usr/share/wordnet")
PARTS = {"noun": "1", "verb": "2", "adj": "3"}
"""Parts of speech, and the number that stands for each in a key of WordNet."""
RARE = 3
"""Senses seen less often than this in WordNet's tagged texts are left out."""
NEAR = 40
"""Wrong words are drawn from so many that are about as common as the right one."""

YAML = """\
task: wordnet_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@dataclass(frozen=True)
class Sense:
    """The most common sense of a word."""

    word: str
    part: str
    count: int
    definition: str
    examples: tuple[str, ...]


def senses(folder: Path) -> Iterator[Sense]:
    """The most common senses of all words that are not rare, in WordNet's order."""
    counts = {}
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, number, count = line.split()
        if number == "1" and int(count) >= RARE:
            counts[":".join(key.split(":")[:3])] = int(count)
    for part, kind in PARTS.items():
        for line in (folder / f"data.{part}").read_text(encoding="ascii").splitlines():
            if line.startswith(" "):  # the license
                continue
            fields, _, gloss = line.partition(" | ")
            _, category, _, n_words, *rest = fields.split()
            definition = re.sub(r"\([^)]*\)", "", gloss.split('; "')[0])
            for k in range(int(n_words, 16)):
                word, sense = rest[2 * k], rest[2 * k + 1]
                key = f"{word}%{kind}:{category}:{int(sense, 16):02d}"
                if key in counts and re.fullmatch("[a-z]{3,}", word):
                    examples = tuple(re.findall('"([^"]+)"', gloss))
                    yield Sense(word, part, counts[key], " ".join(definition.split()), examples)


def definition(sense: Sense) -> tuple[str, str] | None:
    """What stands before the word that is asked for, and after it; None without such a question."""
    text = sense.definition
    if not 4 <= len(text.split()) <= 20 or sense.word[:4] in text:
        return None
    return f"{text[0].upper()}{text[1:]}: this is the meaning of the word", ""


def sentence(sense: Sense) -> tuple[str, str] | None:
    """As :func:`definition`, of the first example sentence that has the word once."""
    for text in sense.examples:
        before, *after = re.split(rf"\b{sense.word}\b", text)
        if len(after) == 1 and before.strip() and len(text.split()) >= 6:
            return before.strip(), after[0]
    return None


def items(
    pool: Sequence[Sense],
    ask: Callable[[Sense], tuple[str, str] | None],
    count: int,
    rng: random.Random,
) -> list[dict[str, Any]]:
    """Questions with four choices each, no word asked for twice."""
    ranked = {p: sorted((s for s in pool if s.part == p), key=lambda s: s.count) for p in PARTS}
    asked: set[str] = set()
    found = []
    for sense in rng.sample(pool, len(pool)):
        question = ask(sense)
        if question is None or sense.word in asked:
            continue
        before, after = question
        others = ranked[sense.part]
        start = max(0, others.index(sense) - NEAR // 2)
        near = {s.word for s in others[start : start + NEAR]} - {sense.word}
        near = {word for word in near if word not in before + after}
        words = [sense.word, *rng.sample(sorted(near), 3)]
        rng.shuffle(words)
        asked.add(sense.word)
        found.append(
            {
                "question": before,
                "choices": [word + after for word in words],
                "answer": words.index(sense.word),
            }
        )
        if len(found) == count:
            return found
    sys.exit(f"WordNet has {len(found)} such questions, {count} were wanted: give a lower --items")


def main() -> None:
    """Writes the data and the task files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder, made if missing")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="default: %(default)s")
    parser.add_argument("--items", type=int, default=200, help="per task; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.wordnet / "cntlist.rev").is_file():
        sys.exit(
            f"no WordNet in {args.wordnet}: install the Debian package wordnet-base "
            "(apt install wordnet-base), or name its folder with --wordnet"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    pool = list(senses(args.wordnet))
    for name, ask in (("definitions", definition), ("sentences", sentence)):
        data = args.out / f"{name}.jsonl"
        rows = items(pool, ask, args.items, random.Random(f"{args.seed} {name}"))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = YAML.format(name=name, data=json.dumps(str(data)))  # JSON strings are YAML's too
        (args.out / f"{name}.yaml").write_text(task, encoding="utf-8")
        print(f"{data}: {len(rows)} items")


if __name__ == "__main__":
    main()
