"""What experts say on unlabeled prompts, and how far another model is from saying it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import ConfigError, EvaluationError
from qdmerge.guide import Climb
from qdmerge.spaces import ExpertSpace
from qdmerge_llm.backend import LLMBackend
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.items import Item, split_of
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import AgentBenchDBTask, AgentBenchOSTask, Episode, EpisodeTask, Prompt
from tests.backends.llm.conftest import MAKERS, TASKS, Micro

PROMPTS = 5
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def settings(micro: Micro, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings with a file of prompts for each task, without labels and ids."""
    folder = tmp_path_factory.mktemp("prompts")
    found = micro.config()
    for name, task in found["tasks"].items():
        words = [item["prompt"].rsplit(maxsplit=1)[0] for item in micro.items[name]]
        # Of different lengths.
        rows = [{"prompt": f"{w} {'1' * (2 + k)}"} for k, w in enumerate(words[:PROMPTS], 1)]
        task["guide"] = {"data": write(folder / f"{name}.jsonl", rows)}
    return found


@pytest.fixture(scope="module")
def guide(settings: Any) -> Any:
    return build(settings).guide


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def with_task(settings: Any, name: str, **changes: Any) -> Any:
    tasks = {**settings["tasks"], name: {**settings["tasks"][name], **changes}}
    return {**settings, "tasks": tasks}


def build(settings: Any, **guide: Any) -> Any:
    return LLMConfig(**{**settings, "guide": guide}).build(ExpertSpace)


def everything(guide: Any) -> dict[str, np.ndarray]:
    return {task: np.arange(size) for task, size in guide.sizes.items()}


def losses(guide: Any, x: np.ndarray, rows: Any = None) -> dict[str, float]:
    rows = rows or everything(guide)
    return guide.gradient(x, rows, dict.fromkeys(rows, 0.0))[0]


def by_definition(settings: Any, task: str, x: np.ndarray, k: int) -> float:
    """The divergence from the task's expert, by plain transformers, one prompt at a time."""
    load = AutoModelForCausalLM.from_pretrained
    base, *experts = (load(settings["base"]), *map(load, settings["experts"].values()))
    expert = experts[list(settings["experts"]).index(task)]
    tokenizer = AutoTokenizer.from_pretrained(settings["base"])
    weights = [dict(one.named_parameters()) for one in experts]
    with torch.no_grad():
        for name, own in base.named_parameters():
            own += sum(float(a) * (w[name] - own) for a, w in zip(x, weights, strict=True))
    found = []
    for line in Path(settings["tasks"][task]["guide"]["data"]).read_text().splitlines():
        ids = tokenizer(json.loads(line)["prompt"], return_tensors="pt").input_ids
        read = ids.shape[1]
        limit = settings["tasks"][task]["max_new_tokens"]
        whole = expert.generate(ids, max_new_tokens=limit, do_sample=False)
        if whole[0, -1] == tokenizer.eos_token_id:
            whole = whole[:, :-1]
        with torch.no_grad():
            p, q = (m(whole).logits[0, read - 1 :].double().softmax(-1) for m in (expert, base))
        top = p.topk(min(k, p.shape[1])).indices
        rest = torch.ones_like(p).scatter(1, top, 0)
        p, q = (torch.cat([m.gather(1, top), (m * rest).sum(1)[:, None]], 1) for m in (p, q))
        parts = torch.where(p > 0, p * (p.log() - q.log()), torch.zeros(()).double())
        found += parts.sum(1).tolist()
    return float(np.mean(found))


def test_an_expert_says_what_it_says(guide: Any) -> None:
    for task, rows in everything(guide).items():
        assert len(rows) == PROMPTS
        own, slope = guide.gradient(guide.space.seeds[task], {task: rows}, {task: 1.0})
        away, steep = guide.gradient(guide.space.x0, {task: rows}, {task: 1.0})
        assert abs(own[task]) < 1e-6 < 1e-3 < away[task]
        assert np.abs(slope).max() < 1e-3 * np.abs(steep).max()


@pytest.mark.parametrize("k", [1, 3, 100_000])
def test_the_loss_is_the_divergence_over_likely_tokens_and_the_rest(settings: Any, k: int) -> None:
    guide = build(settings, top_k=k).guide
    x = np.array([0.2, 0.5, 0.4], np.float32)
    for task, loss in losses(guide, x).items():
        assert loss == pytest.approx(by_definition(settings, task, x, k), rel=1e-3)


def test_the_gradient_is_that_of_the_loss(settings: Any) -> None:
    guide = build(settings, top_k=1).guide
    rows, x = everything(guide), guide.space.x0
    shares = {"coding": 0.2, "db": 0.5, "os": 0.3}
    _, gradient = guide.gradient(x, rows, shares)

    def total(at: np.ndarray) -> float:
        return sum(shares[task] * loss for task, loss in losses(guide, at).items())

    steps = 2e-3 * np.eye(3, dtype=np.float32)
    slopes = [(total(x + step) - total(x - step)) / 4e-3 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-2)


def test_answers_count_by_their_length_and_padding_by_nothing(guide: Any) -> None:
    for task, rows in everything(guide).items():
        places = guide._records[task].places.numpy()
        assert len(set(guide._records[task].lengths.tolist())) > 1
        alone = [losses(guide, guide.space.x0, {task: rows[k : k + 1]})[task] for k in rows]
        together = losses(guide, guide.space.x0, {task: rows[::-1]})[task]
        assert together == pytest.approx(np.average(alone, weights=places), rel=1e-4)


def test_a_common_beginning_is_read_once(settings: Any) -> None:
    kind = {"kind": f"{__name__}:Twice", "options": {"system": "To be, or not to be: " * 2}}
    changed = {**with_task(settings, "os", **kind), "chat_template": TEMPLATE}
    guides = [build(changed, checkpointing=again).guide for again in (False, True)]
    read: list[list[int]] = [[], []]
    found = []
    for guide, tokens in zip(guides, read, strict=True):
        rows = {"os": np.arange(guide.sizes["os"])}
        guide.module.model.embed_tokens.register_forward_pre_hook(
            lambda _, inputs, tokens=tokens: tokens.append(inputs[0].numel())
        )
        found.append(guide.gradient(guide.space.x0, rows, {"os": 1.0}))
    assert len(read[0]) == 2
    assert sum(read[0]) < 0.8 * sum(read[1])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_layers_computed_again_give_the_same(settings: Any, guide: Any) -> None:
    frugal = build(settings, checkpointing=True).guide
    ran = []
    frugal.module.model.layers[0].mlp.register_forward_pre_hook(lambda *_: ran.append(1))
    shares = dict.fromkeys(TASKS, 1.0)
    found = [g.gradient(g.space.x0, everything(g), shares) for g in (guide, frugal)]
    assert len(ran) == 2 * len(TASKS)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(frugal.module.model.layers[0])


def test_models_in_bfloat16_are_guided(settings: Any, guide: Any) -> None:
    coarse = build({**settings, "dtype": "bfloat16"}).guide
    shares = dict.fromkeys(TASKS, 1.0)
    (one, slope), (other, steep) = (
        g.gradient(g.space.x0, everything(g), shares) for g in (guide, coarse)
    )
    assert other == pytest.approx(one, rel=0.3)
    assert steep.dtype == np.float32
    assert steep @ slope > 0.9 * np.linalg.norm(steep) * np.linalg.norm(slope)


def test_a_climb_makes_the_average_say_more_of_what_experts_say(guide: Any) -> None:
    climb = Climb(shares=(1 / 3,) * 3, steps=10, rate=0.05, batch=6)
    x, passes = climb(guide, guide.space, guide.space.x0)
    assert passes == 10
    before, after = (sum(losses(guide, at).values()) for at in (guide.space.x0, x))
    assert after < 0.95 * before


def test_what_is_known_is_not_asked_again(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path))

    def asked(settings: Any, **options: Any) -> list[str]:
        seen: list[str] = []
        answered = LLMBackend.answered

        def watch(self: Any, task: Any, items: Any) -> Any:
            seen.append(task.task.name)
            return answered(self, task, items)

        with monkeypatch.context() as patch:
            patch.setattr(LLMBackend, "answered", watch)
            build(settings, **options).guide.prepare()
        return seen

    assert asked(settings) == list(TASKS)
    assert asked(settings) == []
    assert asked(settings, checkpointing=True) == []
    assert asked(with_task(settings, "os", test=2)) == []
    assert asked(with_task(settings, "os", max_new_tokens=23)) == ["os"]
    few = {**settings["tasks"]["db"]["guide"], "examples": 2}
    assert asked(with_task(settings, "db", guide=few)) == ["db"]
    assert asked(settings, top_k=2) == list(TASKS)
    assert asked({**settings, "dtype": "bfloat16"}) == list(TASKS)
    keys = [build(settings, **options).guide.key() for options in ({}, {}, {"top_k": 2})]
    assert keys[0] == keys[1] != keys[2]


class Twice(EpisodeTask):
    """Two turns of a conversation."""

    @classmethod
    def problem(cls, item: Item) -> str | None:
        return None

    def start(self, item: Item) -> Episode:
        return Episode(item, self.opening(item["prompt"]))

    def act(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            if episode.turns == 2:
                episode.end(0.0)
            else:
                episode.tell("more")


def test_each_turn_of_a_conversation_is_an_item(settings: Any) -> None:
    kind = {"kind": f"{__name__}:Twice", "options": {"system": "S", "rounds": 2}}
    changed = {**with_task(settings, "os", **kind), "chat_template": TEMPLATE}
    backend = build(changed)
    assert backend.guide.sizes == {"coding": PROMPTS, "db": PROMPTS, "os": 2 * PROMPTS}
    record = backend.guide._records["os"]
    texts = [backend.tokenizer.decode(row) for row in record.rows]
    for first, second in zip(texts[:PROMPTS], texts[PROMPTS:], strict=True):
        assert first.startswith("<system>S<user>")
        assert second.startswith(f"{first}<user>more<assistant>")
    answer = record.rows[PROMPTS][-(record.places[PROMPTS] - 1) :]
    assert texts[PROMPTS].endswith(f"<assistant>{backend.tokenizer.decode(answer)}")


def test_environments_are_opened_without_labels(sandbox: Sandbox) -> None:
    table = {"table_name": "t", "table_info": {"columns": [{"name": "a"}], "rows": [["7"]]}}
    db = AgentBenchDBTask.read({"id": "1", "description": "Change a.", "table": table}, 1)
    start = "Action: Operation\n```sql\nSELECT a FROM t\n```"
    said = play(AgentBenchDBTask(sandbox), db, [start, "Action: Answer\nFinal Answer: [7]"])
    assert said[1][-1]["content"] == "[('7',)]"
    row = {"id": "1", "description": "Which?", "create": {"init": "echo 5 > /tmp/n"}}
    shell = AgentBenchOSTask.read(row, 1)
    start = "Think: look.\n\nAct: bash\n\n```bash\ncat /tmp/n\n```"
    said = play(AgentBenchOSTask(sandbox), shell, [start, "Think: so.\n\nAct: answer(5)"])
    assert "5" in said[1][-1]["content"]
    assert AgentBenchDBTask.unaskable({"prompt": ""}) == (
        "'table' must have 'table_name' and 'table_info' with 'columns' and 'rows'"
    )
    assert "'create.init' must be text" in str(
        AgentBenchOSTask.unaskable({"id": "", "create": {"init": 3}})
    )


def play(task: EpisodeTask, item: Item, turns: list[str]) -> list[Prompt]:
    assert task.problem(item)
    assert task.unaskable(item) is None
    prompts: list[Prompt] = []

    def speak(asked: Sequence[Prompt]) -> list[str]:
        prompts.extend([*prompt] for prompt in asked)
        return [turns.pop(0)]

    task.ask([item], speak)
    assert not turns
    return prompts


def test_prompts_come_from_the_training_part_and_else_from_validation(
    micro: Micro, sandbox: Sandbox, tmp_path: Path
) -> None:
    groups = {f"python-{k}": MAKERS["python"](k) for k in range(10, 99)}
    more = [{"id": k, "group": k, **v} for k, v in groups.items() if split_of(k) == "train"]
    data = write(tmp_path / "more.jsonl", [*micro.items["coding"], *more])
    backend = build(with_task(micro.config(), "coding", data=data, guide={"examples": 4}))
    with pytest.warns(UserWarning, match="task 'db': the guide asks its expert the prompts that"):
        assert backend.guide.sizes == {"coding": 4, "db": 3, "os": 3}
    own = {"from": "validation", "count": 3}
    assert backend.facts()["guide"] == {
        "coding": {"from": "train", "count": 4},
        "db": own,
        "os": own,
    }
    kept = {item["prompt"] for item in more}
    for row in backend.guide._records["coding"].rows:
        assert backend.tokenizer.decode(row).split("\n")[0] in kept


def test_a_task_learns_from_its_expert_by_name(settings: Any) -> None:
    guide = build(with_task(settings, "os", expert="db")).guide
    assert losses(guide, guide.space.seeds["db"])["os"] == pytest.approx(0, abs=1e-6)
    experts = {k: v for k, v in settings["experts"].items() if k != "os"}
    guide = build({**settings, "experts": experts}).guide
    with pytest.raises(ConfigError, match="task 'os' has no expert .* one of coding, db"):
        guide.prepare()


def test_prompts_without_an_answer_are_left_out(settings: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "show 123"}, {"prompt": "show 1 2" * 40}]
    some = with_task(settings, "os", guide={"data": write(tmp_path / "os.jsonl", rows)})
    with pytest.warns(UserWarning, match="'os': 1 prompts and 24 new tokens do not fit"):
        assert build(some).guide.sizes["os"] == 1
    none = with_task(settings, "os", guide={"data": write(tmp_path / "none.jsonl", rows[1:])})
    with (
        pytest.warns(UserWarning, match="do not fit"),
        pytest.raises(EvaluationError, match="task 'os': expert 'os' answers all 1 prompts"),
    ):
        build(none).guide.prepare()


def check(settings: Any, tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"backend": {"name": "llm", **settings}, "space": "expert"}))
    result = CliRunner().invoke(app, ["check", str(path)])
    return f"{result.exit_code} {' '.join(result.output.split())}"


@pytest.mark.parametrize("split", ["validation", "selection", "test"])
@pytest.mark.parametrize("field", ["prompt", "group"])
def test_what_models_are_scored_on_is_no_prompt(
    settings: Any, micro: Micro, tmp_path: Path, split: str, field: str
) -> None:
    item = next(i for i in micro.items["db"] if split_of(i["group"]) == split)
    same = {"prompt": f" {item['prompt'].upper()}"} if field == "prompt" else {"prompt": "other"}
    row = {"id": "mine", **same, **({"group": item["group"]} if field == "group" else {})}
    data = write(tmp_path / "prompts.jsonl", [{"prompt": "new"}, row])
    told = check(with_task(settings, "db", guide={"data": data}), tmp_path)
    expected = (
        f"task 'db', guide: {data}: item 'mine' is item '{item['id']}' of task 'db' ({split}), "
        "which models are scored on; remove it"
    )
    assert (expected in told) == (split != "validation")
    assert told.startswith("0" if split == "validation" else "2")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no prompts"),
        ([{"question": "add 3"}], "line 1: 'prompt' must be text"),
        ([{"prompt": "a"}, "add 3"], "line 2: expected an object in braces"),
    ],
)
def test_rows_that_cannot_be_asked_are_told(
    settings: Any, tmp_path: Path, rows: Sequence[Any], message: str
) -> None:
    data = write(tmp_path / "prompts.jsonl", rows)
    told = check(with_task(settings, "db", guide={"data": data}), tmp_path)
    assert told.startswith("2")
    assert f"task 'db', guide: {data}" in told
    assert message in told


def test_entropy_is_that_of_the_next_token_at_the_places_of_the_answers(settings: Any) -> None:
    backend = build(settings)
    guide, x = backend.guide, backend.space.x0
    (task, rows), *_ = everything(guide).items()
    losses, gradient = guide.gradient(x, {task: rows}, {task: 1.0}, "entropy")
    record = guide._records[task]
    backend.space.express(x, backend.model)
    found = []
    for ids, places in zip(record.rows, record.places.tolist(), strict=True):  # one at a time
        with torch.no_grad():
            logits = backend.model(input_ids=ids[None]).logits[0, -places:]
        found.append(torch.distributions.Categorical(logits=logits.double()).entropy())
    assert losses[task] == pytest.approx(float(torch.cat(found).mean()), rel=1e-4)
    step, way = 1e-3, gradient / np.linalg.norm(gradient)
    ahead, behind = (
        guide.gradient((x + sign * step * way).astype(np.float32), {task: rows}, {task: 1.0},
                       "entropy")[0][task]
        for sign in (1, -1)
    )  # fmt: skip
    assert (ahead - behind) / (2 * step) == pytest.approx(np.linalg.norm(gradient), rel=0.02)
