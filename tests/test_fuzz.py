"""Damaged files of every kind that is read: a value, or one line that says what is wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save, save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.checkpoints._checkpoint import Checkpoint
from qdmerge.errors import QDMergeError
from qdmerge.parts import load_target
from qdmerge.runs import Run, read_history
from qdmerge.runs._log import _encode, read_events
from qdmerge.settings import load_config
from qdmerge_llm.items import leaked_items, read_items
from qdmerge_llm.tasks import KINDS
from qdmerge_llm.training._data import read_conversations
from qdmerge_segmentation.data._folder import find_samples
from qdmerge_segmentation.data._pixels import read_image, read_mask

DEEP = 5000
ODD = [
    *("null", "true", "0", "-1", "1.5", "1e400", "-0.0", "NaN", "Infinity", "1" + "0" * 400),
    *('""', r'"\ud800"', r'"\u0000"', '"../../x"', '"' + "n" * 5000 + '"', '"%s{0}[("'),
    *("[]", "{}", "[[1]]", "[null]", '{"a": 1}', "[2147483647, 2147483647, 2147483647]"),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP),
]
"""JSON that stands in the place of what belongs there."""

_HERE = "@@here@@"


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value in JSON-able content."""
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return content with another value at a path; None leaves it out."""
    if not path:
        return value
    head, *rest = path
    copied = dict(content) if isinstance(content, dict) else list(content)
    if rest or value is not None:
        copied[head] = put(content[head], tuple(rest), value)
    else:
        del copied[head]
    return copied


@st.composite
def damaged_json(draw: st.DrawFn, content: Any) -> bytes:
    """Draw JSON text with a value that does not belong there, or without one."""
    path = draw(st.sampled_from(list(places(content))))
    odd = draw(st.sampled_from([*ODD, None]))
    if odd is None:
        return json.dumps(put(content, path, None)).encode()
    return json.dumps(put(content, path, _HERE)).replace(json.dumps(_HERE), odd).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a file that was cut off, overwritten somewhere, or has something more."""
    at = draw(st.integers(0, len(content)))
    more = draw(st.binary(max_size=8))
    how = draw(st.sampled_from(["cut", "over", "more"]))
    if how == "cut":
        return content[:at]
    return content[:at] + more + content[at + (len(more) if how == "over" else 0) :]


@dataclass(frozen=True)
class Reading:
    """A file in a folder, what it holds, and what reads it."""

    name: str
    content: Any
    read: Callable[[Path], object]
    fill: Callable[[Path], object] = lambda folder: None
    sound: bool = True

    @property
    def whole(self) -> bytes:
        """The file as it should be."""
        return self.content if isinstance(self.content, bytes) else dumped(self.content)

    def damaged(self) -> st.SearchStrategy[bytes]:
        """Return a strategy of damaged files."""
        if isinstance(self.content, bytes):
            return damaged_bytes(self.content)
        return damaged_json(self.content) | damaged_bytes(self.whole)


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def picture(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
INDEX = {"metadata": {"total_size": 32}, "weight_map": dict.fromkeys(TENSORS, "s.safetensors")}
ADAPTER = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["a"],
    "rank_pattern": {"a": 1},
    "use_rslora": False,
    "base_model_name_or_path": "owner/model",
}
FACTORS = {
    "base_model.model.a.lora_A.weight": torch.ones(1, 3),
    "base_model.model.a.lora_B.weight": torch.ones(2, 1),
}


def write_base(folder: Path) -> None:
    save_file(TENSORS, folder / "base.safetensors")


def read_adapter(folder: Path) -> None:
    vectors = TaskVectors(folder / "base.safetensors", {"one": folder})
    vectors.delta("one", "a.weight")


SETTINGS = {
    "seed": 1,
    "evaluations": 10,
    "backend": {
        "name": "llm",
        "base": "base",
        "experts": {"coding": "coding"},
        "tasks": {"coding": {"kind": "mbpp", "data": "v.jsonl", "validation": 2}},
    },
    "archive": {"name": "grid", "bins": 3},
    "emitters": [{"name": "merge", "batch_size": 2}],
    "execution": {"workers": 2},
    "axes": {"ranges": {"coding": [0, 1]}},
    "start": [{"recipe": "average"}],
}
SEGMENTATION = {
    "backend": {
        "name": "segmentation",
        "base": "base",
        "experts": {"a": "a"},
        "tasks": {"a": {"data": "data"}},
        "sources": {"tiny": {"seed": 1}},
        "input_size": 32,
    }
}
PRESET = "llm-tiny"
ROWS: dict[str, dict[str, Any]] = {
    "python": {
        "id": "1",
        "prompt": "Add.",
        "group": "add",
        "entry": "add",
        "tests": [{"args": [1, 2], "expected": 3}],
    },
    "shell": {"id": "1", "prompt": "List.", "files": {"a/b": "x"}, "expected": "a"},
    "sql": {
        "id": "1",
        "prompt": "How many?",
        "setup": "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1);",
        "reference": "SELECT COUNT(*) FROM t",
    },
    "mbpp": {
        "task_id": "Mbpp/2",
        "prompt": "Add two numbers.",
        "entry_point": "add",
        "canonical_solution": "def add(a, b):\n    return a + b",
        "base_input": [[[1, 2], [3, 4]]],
        "plus_input": [[[0.5], [-1]]],
        "atol": 0,
        "assertion": "assert add(1, 2) == 3",
        "test_list": ["assert add(1, 2) == 3"],
        "contract": "",
    },
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
        "base_input": [[1, 2]],
        "plus_input": [[2, 2]],
    },
    "agentbench_db": {
        "description": "What is the sum?",
        "label": ["3"],
        "type": ["other"],
        "table": {
            "table_name": "t",
            "table_info": {
                "columns": [{"name": "a", "type": "TEXT"}, {"name": "b", "type": "INT"}],
                "rows": [["x", 1], ["y", 2]],
            },
        },
        "sql": {"query": "SELECT SUM(b) FROM t"},
        "answer_md5": "",
    },
    "agentbench_os": {
        "description": "How many files are in /tmp?",
        "create": {"init": {"code": "touch /tmp/a"}},
        "start": "true",
        "evaluation": {
            "check": [None, {"language": "python", "code": "exit(0)"}],
            "example": {"code": "ls /tmp | wc -l"},
        },
        "labels": ["x"],
    },
}


def items_of(kind: str) -> Callable[[Path], None]:
    entry = KINDS.entry(kind)
    found = load_target(entry.target)

    def read(file: Path) -> None:
        for item in read_items(file, found):
            found.bare_question(item), found.gold(item)

    return read


TALK = [{"messages": [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "3"}]}]
LOG = [
    {"event": "start", "time": 1.0, "began": 0.0, "config": "x", "versions": {}, "facts": {}}
    | {"tasks": [{"name": "a", "metric": "m", "range": [0, 1], "expert": None}]}
    | {"measures": [], "experts": ["a"]},
    {"event": "ask", "time": 2.0, "batch": 0, "task": "a", "solutions": ["0f"]}
    | {"names": [], "parents": [["0a", "0b"]]},
    {"event": "scores", "time": 3.0, "batch": 0, "index": 0, "scores": [0.5], "measures": []}
    | {"items": {"a": [0.0, 1.0]}, "seconds": 1.0, "attempts": 1},
    {"event": "tell", "time": 3.0, "batch": 0, "stats": {}},
]


def parent(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda file: read(file.parent)


def write_images(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir()
        for which in range(3):
            pixels = np.full((4, 4), which, np.uint8)
            (folder / name / f"{which}.png").write_bytes(picture(pixels))


READERS = {
    "settings": Reading("s.yaml", SETTINGS, lambda file: load_config(file, models=False)),
    "studies": Reading("s.yaml", SETTINGS, load_config, sound=False),  # of models that are missing
    "segmentation studies": Reading("s.yaml", SEGMENTATION, load_config, sound=False),
    "overrides": Reading(
        "s.json",
        SETTINGS["backend"],
        lambda file: load_config(
            "llm-tiny", [f"backend={file.read_text('latin-1')}"], models=False
        ),
    ),
    "weights": Reading(
        "m.safetensors",
        save(TENSORS),
        lambda file: [Checkpoint.open(file).read(n) for n in Checkpoint.open(file).tensors],
    ),
    "index": Reading(
        "model.safetensors.index.json",
        INDEX,
        parent(Checkpoint.open),
        lambda folder: save_file(TENSORS, folder / "s.safetensors"),
    ),
    "config": Reading(
        "config.json",
        {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "rope": {"theta": 1}},
        parent(lambda folder: TaskVectors(folder, {"one": folder})),
        lambda folder: save_file(TENSORS, folder / "model.safetensors"),
    ),
    "adapter config": Reading(
        "adapter_config.json",
        ADAPTER,
        parent(read_adapter),
        lambda folder: (
            write_base(folder),
            save_file(FACTORS, folder / "adapter_model.safetensors"),
        ),
    ),
    "adapter weights": Reading(
        "adapter_model.safetensors",
        save(FACTORS),
        parent(read_adapter),
        lambda folder: (
            write_base(folder),
            (folder / "adapter_config.json").write_bytes(dumped(ADAPTER)),
        ),
    ),
    **{f"items: {kind}": Reading("i.jsonl", [row], items_of(kind)) for kind, row in ROWS.items()},
    "conversations": Reading(
        "c.jsonl",
        TALK,
        lambda file: (read_conversations(file), leaked_items(file, {"1": "Add two numbers."})),
    ),
    "image": Reading("i.png", picture(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), read_image),
    "mask": Reading(
        "m.png", picture(np.eye(4, dtype=np.uint8) * 255), lambda file: read_mask(file, None)
    ),
    "samples": Reading(
        "images.csv", b"file,group\n0.png,a\n1.png,a\n2.png,b\n", parent(find_samples), write_images
    ),
    "log": Reading(
        "events.jsonl",
        b"".join(map(_encode, LOG)),
        lambda file: read_history(read_events(file)),
    ),
    "a run's settings": Reading(
        "config.yaml",
        {"format": 2, **SETTINGS},
        parent(Run.open),
        lambda folder: (folder / "events.jsonl").write_bytes(b""),
    ),
}


def check(reading: Reading, folder: Path, content: bytes) -> None:
    file = folder / reading.name
    file.write_bytes(content)
    try:
        reading.read(file)
    except QDMergeError as error:
        assert str(error).strip()


@pytest.mark.parametrize("name", [name for name, reading in READERS.items() if reading.sound])
def test_files_as_they_should_be_are_read(name: str, tmp_path: Path) -> None:
    reading = READERS[name]
    reading.fill(tmp_path)
    (tmp_path / reading.name).write_bytes(reading.whole)
    reading.read(tmp_path / reading.name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "examples", [pytest.param(25, id="quick"), pytest.param(2000, marks=pytest.mark.slow, id="all")]
)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, examples: int, tmp_path: Path) -> None:
    reading = READERS[name]
    reading.fill(tmp_path)

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(reading.damaged())
    def fuzz(content: bytes) -> None:
        check(reading, tmp_path, content)

    fuzz()
