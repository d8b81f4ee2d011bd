"""What both backends' swap matrices share: one short search per combination of parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdmerge.backend import GenomeBackend
from qdmerge.runs import build_search
from qdmerge.settings import parse_config

ARCHIVES = {
    "grid": ("GridArchive", {"bins": 6}),
    "cvt": ("CVTArchive", {"centroids": 12, "samples": 200}),
    "dns": ("DNSArchive", {"capacity": 10, "k_neighbors": 2}),
}
EMITTERS = {
    "merge": ("MergeEmitter", {}),
    "iso_line": ("IsoLineEmitter", {}),
    "cma_es": ("EvolutionStrategyEmitter", {"batch_size": 2, "es": "sep_cma_es"}),
    "gaussian": ("GaussianEmitter", {}),
}
# All archives with all emitters, then the other schedulers with the paper's parts.
every_combination = pytest.mark.parametrize(
    ("archive", "emitter", "scheduler"),
    [
        *((archive, emitter, "cycle") for archive in ARCHIVES for emitter in EMITTERS),
        ("grid", "merge", "bandit"),
        ("grid", "merge", "fixed"),
    ],
)


def short_search(backend: GenomeBackend, archive: str, emitter: str, scheduler: str) -> Any:
    """A search of three turns with the chosen parts; asserts that it is one of them, and works."""
    archive_class, archive_options = ARCHIVES[archive]
    emitter_class, emitter_options = EMITTERS[emitter]
    config = parse_config(
        {
            "backend": "toy",  # the parts alone count; the backend is there already
            "archive": {"name": archive, **archive_options},
            "emitters": [{"name": emitter, **emitter_options}],
            "scheduler": scheduler,
        }
    )
    search = build_search(config, backend)
    for _ in range(4):
        batch = search.ask()
        assert np.isfinite(batch.solutions).all()
        search.tell(batch, backend.evaluate(batch.solutions, "validation"))
    emitters = {type(e).__name__ for group in search.scheduler.emitters.values() for e in group}
    assert emitters == {emitter_class}
    for task in search.tasks:
        found = search.archives[task]
        assert type(found).__name__ == archive_class
        assert type(found).__module__.startswith("ribs.")
        assert 1 <= len(found) <= len(backend.space.experts) + 8
        best = search.best(task).scores[task]
        assert best >= max(row[search.tasks.index(task)] for row in _expert_scores(search))
    return search


def _expert_scores(search: Any) -> list[np.ndarray]:
    return [search.seed_scores[name] for name in search.backend.space.experts]
