"""What reads files, each with a file as it should be."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save, save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.checkpoints._checkpoint import Checkpoint
from qdmerge.compare._methods import find_methods
from qdmerge.parts import load_target
from qdmerge.runs import Run, read_history
from qdmerge.runs._log import SolutionStore, _encode, read_events, solution_id
from qdmerge.settings import load_config
from qdmerge_llm.items import leaked_items, read_items
from qdmerge_llm.models import Base, made_otherwise, template_problem
from qdmerge_llm.task_settings import Unlabeled
from qdmerge_llm.tasks import KINDS
from qdmerge_llm.training import LoRAConfig
from qdmerge_llm.training._data import read_conversations
from qdmerge_llm.vocabulary import tell_other_templates, vocabulary_problems
from qdmerge_segmentation.data._folder import find_samples
from qdmerge_segmentation.data._pixels import read_image, read_mask
from qdmerge_segmentation.models._preprocessing import Preprocessing
from qdmerge_segmentation.training._record import read_record
from tests.damage import ODD_YAML, damaged_bytes, damaged_json
from tests.rows import ROWS


@dataclass(frozen=True)
class Reading:
    """A file in a folder, and what reads it.

    Attributes:
        name: Its name.
        content: What it holds: bytes, or content of JSON.
        read: Reads it.
        fill: Writes the other files of the folder.
        sound: Whether it can be read as it is.
        more: Values besides JSON's that may stand in it.
        wrap: Makes the file of the JSON text.
        many: Whether all mistakes are told, a line each.
    """

    name: str
    content: Any
    read: Callable[[Path], object]
    fill: Callable[[Path], object] = lambda folder: None
    sound: bool = True
    more: Sequence[str] = ()
    wrap: Callable[[bytes], bytes] = bytes
    many: bool = False

    @property
    def whole(self) -> bytes:
        """The file as it should be."""
        return self.content if isinstance(self.content, bytes) else self.wrap(dumped(self.content))

    def damaged(self) -> st.SearchStrategy[bytes]:
        """Return a strategy of damaged files."""
        if isinstance(self.content, bytes):
            return damaged_bytes(self.content)
        return damaged_json(self.content, self.more).map(self.wrap) | damaged_bytes(self.whole)


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


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


def items_of(kind: str, labels: bool = True) -> Callable[[Path], None]:
    entry = KINDS.entry(kind)
    found = load_target(entry.target)

    def read(file: Path) -> None:
        items = read_items(file, found if labels else Unlabeled(found))
        for item in items if labels else []:
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


def with_values(header: bytes) -> bytes:
    """The file of a header, with the values of TENSORS."""
    file = save(TENSORS)
    return (
        len(header).to_bytes(8, "little") + header + file[8 + int.from_bytes(file[:8], "little") :]
    )


def with_checksums(text: bytes) -> bytes:
    """The log of events, or the text itself where it is no list of events."""
    try:
        return b"".join(
            _encode(event) if isinstance(event, dict) else b"" for event in json.loads(text)
        )
    except (ValueError, TypeError, RecursionError):
        return text


def read_template_of(folder: Path) -> None:
    template_problem(None, Base(str(folder)), ["db"])
    tell_other_templates(folder, {"one": folder})


def parent(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda file: read(file.parent)


def write_images(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir()
        for which in range(3):
            pixels = np.full((4, 4), which, np.uint8)
            (folder / name / f"{which}.png").write_bytes(picture(pixels))


READERS = {
    "settings": Reading(
        "s.yaml", SETTINGS, lambda file: load_config(file, models=False), more=ODD_YAML, many=True
    ),
    # of models that are missing
    "studies": Reading("s.yaml", SETTINGS, load_config, sound=False, more=ODD_YAML, many=True),
    "segmentation studies": Reading(
        "s.yaml", SEGMENTATION, load_config, sound=False, more=ODD_YAML, many=True
    ),
    "overrides": Reading(
        "s.json",
        SETTINGS["backend"],
        lambda file: load_config(
            "llm-tiny", [f"backend={file.read_text('latin-1')}"], models=False
        ),
        more=ODD_YAML,
        many=True,
    ),
    "methods": Reading(
        "m.yaml",
        {"mine": {"search": "paper", "settings": {"seed": 1}}},
        lambda file: find_methods([str(file)]),
        sound=False,
        more=ODD_YAML,
        many=True,
    ),
    "weights": Reading(
        "m.safetensors",
        save(TENSORS),
        lambda file: [Checkpoint.open(file).read(n) for n in Checkpoint.open(file).tensors],
    ),
    "header": Reading(
        "m.safetensors",
        json.loads(save(TENSORS)[8 : 8 + int.from_bytes(save(TENSORS)[:8], "little")]),
        lambda file: [Checkpoint.open(file).read(n) for n in Checkpoint.open(file).tensors],
        wrap=with_values,
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
        many=True,
    ),
    "adapter config": Reading(
        "adapter_config.json",
        ADAPTER,
        parent(read_adapter),
        lambda folder: (
            write_base(folder),
            save_file(FACTORS, folder / "adapter_model.safetensors"),
        ),
        many=True,
    ),
    "adapter weights": Reading(
        "adapter_model.safetensors",
        save(FACTORS),
        parent(read_adapter),
        lambda folder: (
            write_base(folder),
            (folder / "adapter_config.json").write_bytes(dumped(ADAPTER)),
        ),
        many=True,
    ),
    "tokenizer": Reading(
        "tokenizer.json",
        {
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
            "added_tokens": [{"id": 2, "content": "<s>", "special": True}],
        },
        parent(lambda folder: vocabulary_problems(folder, {"one": folder / "one"}, False)),
        lambda folder: (
            (folder / "one").mkdir(),
            (folder / "one" / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}'),
        ),
    ),
    "tokenizer's settings": Reading(
        "tokenizer_config.json",
        {"chat_template": [{"name": "default", "template": "{{ messages }}"}]},
        parent(read_template_of),
    ),
    "template": Reading(
        "chat_template.jinja",
        b"{% for m in messages %}{{ m['content'] }}{% generation %}{% endgeneration %}{% endfor %}",
        parent(read_template_of),
    ),
    "record": Reading(
        "qdmerge.json",
        {"base": {"sha256": "0"}, "data": {"sha256": "1"}, "settings": {"rank": 4}},
        parent(lambda folder: made_otherwise(folder, None, (folder / "x", LoRAConfig()))),
    ),
    "preprocessing": Reading(
        "preprocessor_config.json",
        {
            "do_resize": True,
            "size": {"height": 8, "width": 8},
            "rescale_factor": 0.5,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "do_flip_channel_order": None,
        },
        parent(lambda folder: Preprocessing.read(folder).pixels([np.zeros((8, 8, 3), np.uint8)])),
    ),
    **{f"items: {kind}": Reading("i.jsonl", [row], items_of(kind)) for kind, row in ROWS.items()},
    **{
        f"prompts: {kind}": Reading("i.jsonl", [row], items_of(kind, labels=False))
        for kind, row in ROWS.items()
    },
    "items, compressed": Reading(
        "i.jsonl.gz", gzip.compress(dumped(ROWS["sql"]), mtime=0), items_of("sql")
    ),
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
    "events": Reading(
        "events.jsonl",
        LOG,
        lambda file: read_history(read_events(file)),
        wrap=with_checksums,
    ),
    "solution": Reading(
        f"{solution_id(np.ones(3))}.npy",
        npy(np.ones(3)),
        lambda file: SolutionStore(file.parent).get(file.stem),
    ),
    "training's history": Reading("training.yaml", {"curve": [1]}, read_record, more=ODD_YAML),
    "a run's settings": Reading(
        "config.yaml",
        {"format": 2, **SETTINGS},
        parent(Run.open),
        lambda folder: (folder / "events.jsonl").write_bytes(b""),
        more=ODD_YAML,
        many=True,
    ),
}
