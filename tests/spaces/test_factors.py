from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError, RunError
from qdmerge.spaces import SpectralSpace, _spectral
from qdmerge.spaces._factors import truncated_svd
from tests.trios import SHAPES, Trio, write


def spectrum_matrix(rows: int, columns: int, singular: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    n = len(singular)
    u = torch.linalg.qr(torch.randn(rows, n, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(columns, n, generator=generator)).Q
    return u @ torch.diag(singular) @ v.T


@pytest.mark.parametrize(("rows", "columns"), [(120, 80), (80, 120)])
def test_randomized_svd_finds_the_leading_components(rows: int, columns: int) -> None:
    matrix = spectrum_matrix(rows, columns, 0.9 ** torch.arange(60))
    u, s, vt = truncated_svd(matrix, 6)
    exact_u, exact_s, exact_vt = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(s, exact_s[:6], rtol=1e-3, atol=0)
    best = exact_u[:, :6] * exact_s[:6] @ exact_vt[:6]
    torch.testing.assert_close(u * s @ vt, best, rtol=0, atol=2e-2)
    torch.testing.assert_close(u.T @ u, torch.eye(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(vt @ vt.T, torch.eye(6), rtol=0, atol=1e-5)


def test_it_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    matrix = spectrum_matrix(90, 90, 0.99 ** torch.arange(90))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = truncated_svd(matrix, 4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, truncated_svd(matrix, 4), strict=True))


def test_a_matrix_hardly_larger_than_the_rank_is_decomposed_exactly() -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    u, s, vt = truncated_svd(matrix, 20)
    torch.testing.assert_close(u * s @ vt, matrix, rtol=1e-4, atol=1e-5)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the matrices factorized so far; one entry each time."""
    names: list[str] = []
    real = _spectral._components

    def counting(vectors: TaskVectors, name: str, rank: int) -> dict[str, torch.Tensor]:
        names.append(name)
        return real(vectors, name, rank)

    monkeypatch.setattr(_spectral, "_components", counting)
    return names


MATRICES = sum(len(shape) >= 2 for shape in SHAPES.values())


def test_factors_are_computed_once_per_content_and_rank(
    trio: Trio, tmp_path: Path, computed: list[str]
) -> None:
    first = SpectralSpace(trio.vectors(), 2, tmp_path)
    assert len(computed) == MATRICES
    again = SpectralSpace(trio.vectors(), 2, tmp_path)
    assert len(computed) == MATRICES
    assert first.energy("db") == again.energy("db")
    SpectralSpace(trio.vectors(), 3, tmp_path)
    assert len(computed) == 2 * MATRICES
    assert len(list((tmp_path / "factors").glob("*.safetensors"))) == 2


def test_other_experts_have_factors_of_their_own(
    trio: Trio, make_trio: Callable[..., Trio], tmp_path: Path, computed: list[str]
) -> None:
    SpectralSpace(trio.vectors(), 2, tmp_path)
    SpectralSpace(make_trio(seed=5).vectors(), 2, tmp_path)
    assert len(computed) == 2 * MATRICES


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_broken_cache_file_is_rebuilt(
    trio: Trio, tmp_path: Path, computed: list[str], damage: str
) -> None:
    good = SpectralSpace(trio.vectors(), 2, tmp_path)
    (file,) = (tmp_path / "factors").glob("*.safetensors")
    content = file.read_bytes()
    broken = {
        "truncated": content[:-3],
        "empty": b"",
        "foreign": (trio.base_path / "model.safetensors").read_bytes(),
    }
    file.write_bytes(broken[damage])
    rebuilt = SpectralSpace(trio.vectors(), 2, tmp_path)
    assert len(computed) == 2 * MATRICES
    assert file.read_bytes() == content
    x = torch.linspace(-1, 1, good.dim).numpy()
    for (_, a), (_, b) in zip(good.tensors(x), rebuilt.tensors(x), strict=True):
        assert torch.equal(a, b)


def test_the_default_cache_is_the_user_s(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "mine"))
    SpectralSpace(trio.vectors(), 2)
    assert len(list((tmp_path / "mine" / "factors").glob("*.safetensors"))) == 1


def test_a_cache_that_cannot_be_written(trio: Trio, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="QDMERGE_CACHE"):
        SpectralSpace(trio.vectors(), 2, tmp_path / "file")


def test_differences_that_are_not_finite(trio: Trio, tmp_path: Path) -> None:
    base, bad = (trio.base | {"head.weight": torch.full((6, 8), x)} for x in (3e38, -3e38))
    base_path = write(tmp_path / "base", base)
    vectors = TaskVectors(base_path, {"db": write(tmp_path / "db", bad)})
    with pytest.raises(CheckpointError, match=r"'db'.*infinitely in head.weight"):
        SpectralSpace(vectors, 2, tmp_path)
    assert {path.suffix for path in (tmp_path / "factors").iterdir()} <= {".lock"}
