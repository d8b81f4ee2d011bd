"""What all tests share: a third-party backend, a cache of their own, quick pyribs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from qdmerge_toy import ToyBackend

    from qdmerge.search import CycleQD

# Workers share the cores, and sums must not depend on how many there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pyribs compiles a few helpers when it is first used, which costs every process more than its
# tests do. What they compute is the same without.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

# The toy backend is installed the way a user's would be: a distribution on the path, found by its
# entry point; in processes that tests start, too.
_PLUGIN = str(Path(__file__).parent / "plugin")
sys.path.insert(0, _PLUGIN)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (_PLUGIN, os.environ.get("PYTHONPATH", "")))
)

settings.register_profile("qdmerge", deadline=None)
settings.load_profile("qdmerge")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that lives as long as this session, shared by its workers."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QDMERGE_CACHE", str(root / "cache"))
        yield


@pytest.fixture(autouse=True)
def _one_thread_after_each_test() -> Iterator[None]:
    """Undo what runs do: one worker takes all cores, for all that its process does afterwards.

    Two test workers that both do so slow each other down many times. Not by OMP_THREAD_LIMIT:
    kernels that were promised two threads and get one wait forever or leave half undone.
    """
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@pytest.fixture
def no_global_randomness() -> Iterator[None]:
    """Fails if numpy's global generator was used: every draw comes from one that was passed."""
    import numpy as np

    before = np.random.get_state()[1:3]  # noqa: NPY002
    yield
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert np.array_equal(before[0], after[0]), "the global random state was used"
    assert before[1] == after[1], "the global random state was used"


@pytest.fixture(scope="session")
def toy() -> Callable[..., ToyBackend]:
    """Makes toy backends: ``toy(n_tasks=3, n_measures=1)``."""
    from qdmerge_toy import ToyBackend, ToyConfig

    return lambda **options: ToyBackend(ToyConfig(**options))


@pytest.fixture(scope="session")
def evolve() -> Callable[[CycleQD, int], CycleQD]:
    """Runs a search for some generations after its seeds."""

    def run(search: CycleQD, generations: int) -> CycleQD:
        for _ in range(generations + 1):
            batch = search.ask()
            search.tell(batch, search.evaluate(batch))
        return search

    return run
