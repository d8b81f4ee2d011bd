"""What breaks a study: changes of its settings or files; what ``qdmerge check`` says of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from qdmerge_llm.items import split_of

SAFE = "model.safetensors"
Break = Callable[[dict[str, Any]], object]
"""Breaks the study in the working directory: changes its settings in place, or its files."""


def read_rows(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def write_rows(file: str | Path, rows: list[Any]) -> None:
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def at(path: str, value: Any) -> Break:
    """Set a setting; ``None`` removes it."""
    *outer, last = path.split(".")

    def change(settings: dict[str, Any]) -> None:
        for key in outer:
            settings = settings.setdefault(key, {})
        if value is None:
            del settings[last]
        else:
            settings[last] = value

    return change


def config_of(model: str, file: str = "config.json", **entries: Any) -> Break:
    def change(settings: dict[str, Any]) -> None:
        path = Path(model, file)
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return change


def weights_of(model: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    def change(settings: dict[str, Any]) -> None:
        tensors = load_file(Path(model, SAFE))
        edit(tensors)
        save_file(tensors, Path(model, SAFE), {"format": "pt"})

    return change


def text_of(file: str, text: str) -> Break:
    return lambda settings: Path(file).write_text(text)


def row_of(file: str, **fields: Any) -> Break:
    """Change a row of data; ``None`` removes a field."""

    def change(settings: dict[str, Any]) -> None:
        first, *rest = read_rows(file)
        changed = {k: v for k, v in {**first, **fields}.items() if v is not None}
        write_rows(file, [changed, *rest])

    return change


def row_twice(settings: dict[str, Any]) -> None:
    rows = read_rows("db.jsonl")
    write_rows("db.jsonl", [*rows, rows[0]])


def sharded(settings: dict[str, Any]) -> None:
    tensors = load_file(Path("db", SAFE))
    names = sorted(tensors)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, Path("db", shard), {"format": "pt"})
    index = {name: shard for shard, held in shards.items() for name in held}
    Path("db", f"{SAFE}.index.json").write_text(json.dumps({"weight_map": index}))
    Path("db", SAFE).unlink()


def adapter(settings: dict[str, Any], out: int = 32, **config: Any) -> None:
    shutil.rmtree("db")
    Path("db").mkdir()
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {"lora_A": torch.ones(2, 32), "lora_B": torch.ones(out, 2)}
    save_file(
        {f"{layer}.{k}.weight": v for k, v in factors.items()}, "db/adapter_model.safetensors"
    )
    settled = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    Path("db/adapter_config.json").write_text(json.dumps({**settled, **config}))


def both(*breaks: Break) -> Break:
    return lambda settings: [one(settings) for one in breaks]


def same_prompt(settings: dict[str, Any]) -> None:
    """One question in the files of two splits."""
    rows = read_rows("db.jsonl")
    files = {"validation": rows[:3], "selection": rows[2:5], "test": rows[5:]}
    for split, held in files.items():
        write_rows(f"{split}.jsonl", [{**row, "id": f"{split}-{row['id']}"} for row in held])
    settings["backend"]["tasks"]["db"]["data"] = {split: f"{split}.jsonl" for split in files}


def guided_by(settings: dict[str, Any]) -> None:
    write_rows("prompts.jsonl", read_rows("db.jsonl"))
    settings["backend"]["tasks"]["db"]["guide"] = {"data": "prompts.jsonl"}


def side_task(settings: dict[str, Any]) -> None:
    seen = [row for row in read_rows("db.jsonl") if split_of(row["group"]) == "validation"]
    write_rows("more.jsonl", seen[:1])
    settings["backend"]["side_tasks"] = {"more": {"kind": "sql", "data": "more.jsonl"}}


def trained_on(settings: dict[str, Any]) -> None:
    asked = [{"role": "user", "content": read_rows("db.jsonl")[0]["prompt"] + " in the table?"}]
    rows = read_rows("db.jsonl")
    rows[0]["prompt"] = asked[0]["content"]
    write_rows("db.jsonl", rows)
    write_rows("talk.jsonl", [{"messages": asked}])
    settings["backend"]["training"] = {"db": {"data": "talk.jsonl"}}


def in_chat(settings: dict[str, Any]) -> None:
    """Ask a question in a conversation, at the end."""
    task = {"task_id": "Mbpp/999", "prompt": "Add two numbers.", "entry_point": "add"}
    answer = {"canonical_solution": "def add(a, b):\n    return a + b", "base_input": [[1, 2]]}
    write_rows("mbpp.jsonl", [{**task, **answer}])
    settings["backend"]["side_tasks"] = {"chat": {"kind": "mbpp", "data": "mbpp.jsonl"}}


def other_numbers(settings: dict[str, Any]) -> None:
    path = Path("db/tokenizer.json")
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    a, b = list(vocabulary)[10:12]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    path.write_text(json.dumps(content))


def pickled(settings: dict[str, Any]) -> None:
    torch.save(load_file(Path("db", SAFE)), "db/pytorch_model.bin")
    Path("db", SAFE).unlink()


def segmentation(*breaks: Break) -> Break:
    """Make a study of pictures of the study, and break it."""

    def change(settings: dict[str, Any]) -> None:
        settings["backend"] = {
            "name": "segmentation",
            "base": "tiny://base",
            "experts": {name: f"tiny://{name}" for name in ("camouflage", "leaf")},
            "tasks": {"camouflage": {"data": "others"}, "leaf": {"data": "pictures"}},
        }
        both(*breaks)(settings)

    return change


def remove(file: str) -> Break:
    return lambda settings: Path(file).unlink()


def cut(file: str, by: int = 9) -> Break:
    return lambda settings: Path(file).write_bytes(Path(file).read_bytes()[:-by])


def norm(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors["model.norm.weight"].__setitem__(3, value)


NAN, INF = float("nan"), float("inf")
EMITTERS, DB = "emitters", "backend.tasks.db"
BROKEN: dict[str, tuple[Break, str]] = {
    # text
    "unknown key": (at("evalutions", 8), "unknown key 'evalutions'; did you mean 'evaluations'?"),
    "wrong type": (at("evaluations", "many"), "'evaluations'"),
    "no budget": (at("evaluations", 0), "'evaluations'"),
    "no seconds": (at("seconds", 0), "'seconds'"),
    "seed": (at("seed", -1), "'seed'"),
    "unknown backend": (at("backend.name", "lm"), "'lm'"),
    "nothing to evaluate": (at(EMITTERS, []), "nothing would be evaluated"),
    "timeout": (at("execution", {"timeout": 5}), "'workers' of at least 2"),
    "range that falls": (at("axes", {"ranges": {"db": [1, 0]}}), "a range must rise"),
    "range without an end": (at("axes", {"ranges": {"db": [0, INF]}}), "ranges"),
    "range of no task": (at("axes", {"ranges": {"dbs": [0, 1]}}), "did you mean 'db'?"),
    "weight of no task": (at("final", {"weights": {"os": 1}}), "unknown name 'os'"),
    "choice without weights": (at("final", {"choose_by": "weights"}), "needs 'weights'"),
    "start of another space": (at("start", ["regmean"]), "needs 'space: regmean'"),
    # parts
    "unknown archive": (at("archive", "gird"), "did you mean 'grid'?"),
    "unknown option": (at("archive", {"name": "grid", "bin": 3}), "did you mean 'bins'?"),
    "axes of an archive": (at("archive", {"name": "grid", "bins": [3, 3]}), "bins must be one"),
    "archive without elites": (at("archive", "categorical"), "categories for axes"),
    "unknown space": (at("space", "expret"), "did you mean 'expert'?"),
    "part that is not there": (at("scheduler", "nowhere:Scheduler"), "nowhere"),
    "part that is no part": (at("archive", "collections:OrderedDict"), "OrderedDict"),
    "unknown task of a policy": (
        at("scheduler", {"name": "fixed", "task": "bd"}),
        "did you mean 'db'?",
    ),
    "operator of another space": (
        at(EMITTERS, [{"name": "merge", "mutation": "svd"}]),
        "space 'expert' does not have",
    ),
    "unknown operator": (
        at(EMITTERS, [{"name": "merge", "crossover": "blendd"}]),
        "blendd",
    ),
    "unknown ranker": (at(EMITTERS, [{"name": "cma_es", "ranker": "best"}]), "`best`"),
    "ranker without novelty": (at(EMITTERS, [{"name": "cma_es", "ranker": "nov"}]), "novelty"),
    "negative noise": (at(EMITTERS, [{"name": "gaussian", "sigma": -1}]), "GaussianEmitter"),
    "noise without end": (at(EMITTERS, [{"name": "gaussian", "sigma": INF}]), "NaN or infinity"),
    "noise of no number": (at(EMITTERS, [{"name": "iso_line", "iso_sigma": NAN}]), "NaN or inf"),
    "batch of none": (
        at(EMITTERS, [{"name": "gaussian", "sigma": 1, "batch_size": 0}]),
        "ask for no solutions",
    ),
    "neighbours of none": (at("archive", {"name": "proximity", "k_neighbors": 0}), "Proximity"),
    "novelty of no number": (
        at("archive", {"name": "proximity", "novelty_threshold": NAN}),
        "ProximityArchive",
    ),
    "archive without end": (at("archive", {"name": "grid", "bins": 10**12}), "GiB"),
    "capacity without end": (at("archive", {"name": "dns", "capacity": 10**12}), "'dns'"),
    # models
    "no base": (at("backend.base", "bse"), "did you mean 'base'?"),
    "no expert": (at("backend.experts.db", "bd"), "did you mean 'db'?"),
    "expert named base": (
        at("backend.experts", {"base": "db", "coding": "coding"}),
        "cannot be named 'base'",
    ),
    "no experts": (at("backend.experts", {}), "'experts'"),
    "unknown scheme": (at("backend.experts.db", "tony://db"), "tony"),
    "unknown part of a scheme": (at("backend.experts.db", "tiny://bd"), "did you mean 'db'?"),
    "no weights": (remove(f"db/{SAFE}"), "expert 'db'"),
    "weights of torch": (pickled, "only pickled weights"),
    "weights cut off": (cut(f"db/{SAFE}"), f"db/{SAFE}"),
    "NaN": (weights_of("db", norm(NAN)), "expert 'db' (db): holds NaN or infinity: model.norm"),
    "infinity": (weights_of("base", norm(INF)), "holds NaN or infinity: model.norm.weight"),
    "other shape": (
        weights_of("db", lambda found: found.update({"model.norm.weight": torch.ones(33)})),
        "model.norm.weight (32,) -> (33,)",
    ),
    "tensor too few": (
        weights_of("db", lambda found: found.pop("model.norm.weight")),
        "lacks tensors of the base: model.norm.weight",
    ),
    "tensor too many": (
        weights_of("db", lambda found: found.update(more=torch.ones(3))),
        "has tensors that the base lacks: more",
    ),
    "whole numbers": (
        weights_of(
            "db", lambda found: found.update({"model.norm.weight": torch.ones(32).to(torch.int8)})
        ),
        "another kind",
    ),
    "other architecture": (config_of("db", model_type="gpt2"), "is a 'gpt2' model"),
    "other computation": (config_of("db", rms_norm_eps=0.5), "rms_norm_eps"),
    "quantized": (
        config_of("db", quantization_config={"quant_method": "gptq"}),
        "is quantized (gptq)",
    ),
    "config cut off": (cut("db/config.json"), "config.json"),
    "config of base without end": (text_of("base/config.json", '{"a":' * 5000), "config.json"),
    "no config": (remove("base/config.json"), "holds no config.json"),
    "shard gone": (both(sharded, remove("db/two.safetensors")), "two.safetensors"),
    "shard cut off": (both(sharded, cut("db/two.safetensors")), "two.safetensors"),
    "index without a map": (both(sharded, text_of(f"db/{SAFE}.index.json", "{}")), "weight_map"),
    "adapter as base": (both(adapter, at("backend.base", "db")), "adapter"),
    "adapter of another base": (lambda settings: adapter(settings, 48), "q_proj"),
    "adapter of another kind": (lambda settings: adapter(settings, peft_type="LOHA"), "LOHA"),
    "adapter of no rank": (lambda settings: adapter(settings, r=0), "impossible value of 'r'"),
    "adapter without weights": (
        both(adapter, remove("db/adapter_model.safetensors")),
        "adapter_model.safetensors",
    ),
    "tokens of other numbers": (other_numbers, "numbers tokens otherwise"),
    "tokenizer cut off": (cut("db/tokenizer.json"), "tokenizer.json"),
    "template gone": (at("backend.chat_template", "chat.jinja"), "chat_template 'chat.jinja'"),
    "template cut off": (
        at("backend.chat_template", "{% for x in messages %}"),
        "chat_template is no Jinja template, line 1",
    ),
    "template of base cut off": (
        both(in_chat, text_of("base/chat_template.jinja", "{{ messages")),
        "the chat template of base is no Jinja template, line 1",
    ),
    "no template": (in_chat, "has no chat template"),
    # data
    "no data": (at(f"{DB}.data", "bd.jsonl"), "did you mean 'db.jsonl'?"),
    "data of one split": (at(f"{DB}.data", {"test": "db.jsonl"}), "one for each of"),
    "empty data": (text_of("db.jsonl", ""), "too few items"),
    "data that is no JSON": (text_of("db.jsonl", "{{"), "db.jsonl, line 1: not JSON"),
    "data in another code": (
        lambda settings: Path("db.jsonl").write_bytes(b"\xff\xfe{}"),
        "cannot read db.jsonl",
    ),
    "row without a field": (row_of("db.jsonl", reference=None), "'reference' must be SQL text"),
    "row of a wrong type": (row_of("coding.jsonl", tests={}), "'tests'"),
    "row twice": (row_twice, "is that of line 1 already"),
    "too few items": (at(f"{DB}.test", 99), "test 4 of 99"),
    "reference that does not run": (
        row_of("db.jsonl", reference="SELECT x FROM t"),
        "the reference query does not run",
    ),
    "unknown kind": (at(f"{DB}.kind", "sqll"), "did you mean 'sql'?"),
    "unknown option of a kind": (at(f"{DB}.options", {"second": 1}), "did you mean 'seconds'?"),
    "unknown expert of a task": (at(f"{DB}.expert", "bd"), "did you mean 'db'?"),
    "empty stop": (at(f"{DB}.stop", [""]), "an empty string ends every answer"),
    "splits that overlap": (same_prompt, "have the same prompt"),
    "guide that tells": (guided_by, "which models are scored on"),
    "side task that is seen": (side_task, "which the search sees"),
    "training that tells": (trained_on, "ask what models are scored on"),
    # pictures
    "no pictures": (segmentation(at("backend.tasks.leaf.data", "picture")), "did you mean"),
    "mask gone": (segmentation(remove("pictures/masks/3.png")), "3.png"),
    "picture cut off": (segmentation(cut("pictures/images/3.png", 900)), "3.png"),
    "mask of another size": (
        segmentation(
            lambda settings: Image.new("L", (8, 8)).save("pictures/masks/3.png"),
        ),
        "3.png",
    ),
    "metric": (segmentation(at("backend.tasks.leaf.metric", "dicer")), "dice"),
    "fractions": (
        segmentation(at("backend.fractions", {"train": 0.9})),
        "the fractions sum to",
    ),
}
