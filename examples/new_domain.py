"""A domain of your own in one file: three skills on scikit-learn's digits, merged by CycleQD.

A small network is trained briefly on upright, rotated and inverted digits. Three experts start from
it, see one of these views each, and forget the others. CycleQD merges what they learned; so does a
climb along a guide, which asks the experts about digits without labels::

    python examples/new_domain.py --out runs/new-domain
"""

import copy
import tempfile
from pathlib import Path

import pandas as pd
import torch
import typer
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import qdmerge as qm
from qdmerge import checkpoints, guide, merges, reports, spaces

TASKS = ["upright", "rotated", "inverted"]
SPLITS = {"train": 600, "validation": 300, "selection": 300, "test": 597}


class Digits(qm.GenomeBackend):
    """What a search needs to know of a domain: its tasks, its space, and how models are scored."""

    def __init__(self, splits, net, space):
        self.splits, self.net, self.space = splits, net, space
        self.tasks = [qm.Task(name, metric="accuracy") for name in TASKS]
        self.guide = spaces.ModuleGuide(space, net, self.disagreement, dict.fromkeys(TASKS, 600))
        self.answers = {}  # of each expert to the training digits, as probabilities
        for name, view in zip(TASKS, splits["train"][0], strict=True):
            space.express(space.seeds[name], net)
            self.answers[name] = net(view).softmax(dim=1).detach()

    def disagreement(self, task, rows):
        """How far the live network is from what a task's expert says of some digits."""
        digits = self.splits["train"][0][TASKS.index(task), rows]
        answers, said = self.net(digits).log_softmax(dim=1), self.answers[task][rows]
        return nn.functional.kl_div(answers, said, reduction="batchmean")

    @torch.no_grad()
    def evaluate(self, xs, split):
        """The accuracies of n models on the three tasks, (n, 3)."""
        views, labels = self.splits[split]
        scores = []
        for x in xs:
            self.space.express(x, self.net)  # the live network becomes the model of x
            scores.append((self.net(views).argmax(dim=2) == labels).double().mean(dim=1))
        return qm.Evaluation(torch.stack(scores).numpy())


def train(net, images, labels, path):
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(50):
        batch = torch.randint(len(labels), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()
    save_file(net.state_dict(), path)


def main(out: Path | None = None, seed: int = 0, evaluations: int = 600) -> None:
    """Leaves base, experts, a merged network and a figure in a folder, and prints test scores."""
    folder = out or Path(tempfile.mkdtemp()) / "new-domain"
    folder.mkdir(parents=True)
    torch.set_num_threads(1)  # networks this small only lose time on more
    torch.manual_seed(seed)  # of splits, first weights and batches

    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16 - 0.5).float(), torch.tensor(digits.target)
    views = torch.stack([images, images.rot90(1, (1, 2)), -images]).flatten(2)  # (3, n, 64)
    parts = zip(SPLITS, torch.randperm(len(labels)).split([*SPLITS.values()]), strict=True)
    splits = {name: (views[:, part], labels[part]) for name, part in parts}  # share no digit

    # Base and experts. Of models that you have already, their paths are enough.
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    paths = {name: folder / f"{name}.safetensors" for name in ["base", *TASKS]}
    views, labels = splits["train"]
    train(net, views.flatten(0, 1), labels.repeat(3), paths["base"])
    for name, view in zip(TASKS, views, strict=True):
        train(copy.deepcopy(net), view, labels, paths[name])

    space = spaces.SpectralSpace(checkpoints.TaskVectors(paths.pop("base"), paths))
    backend = Digits(splits, net, space)
    search = qm.CycleQD(backend, seed=seed)
    for _ in range(1 + evaluations):  # first base and experts, then one child after the other
        batch = search.ask()
        search.tell(batch, backend.evaluate(batch.solutions, "validation"))

    # Validation scores of the best are too good, so other digits choose, and yet others tell.
    elites = [search.best(task, by="mean") for task in TASKS]
    chosen = max(elites, key=lambda elite: backend.evaluate([elite.x], "selection").scores.mean())
    models = {**space.seeds, "average": merges.plain_average(space)}
    models |= {"aggregate": search.aggregate(), "chosen": chosen.x}
    climb = guide.Climb(shares=[1 / 3] * 3, steps=200, rate=0.1)
    models["climbed"], _ = climb(backend.guide, space, models["average"])
    table = pd.DataFrame(backend.evaluate(models.values(), "test").scores, [*models], TASKS)
    print(table.assign(mean=table.mean(axis=1), min=table.min(axis=1)).round(3))

    known = pd.DataFrame(search.seed_scores, TASKS).to_dict() | {"chosen": chosen.scores}
    marks = [reports.Mark(name, scores, name == "chosen") for name, scores in known.items()]
    maps = reports.archive_maps(search.archives, backend.tasks)
    reports.save_figure(reports.archive_heatmap(maps, marks), folder / "archives.png")
    print("The merged network is in", space.export(chosen.x, folder / "merged"))


if __name__ == "__main__":
    typer.run(main)
