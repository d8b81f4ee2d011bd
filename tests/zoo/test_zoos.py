"""The cache of zoos, with a builder that writes one file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from qdmerge.errors import RunError
from qdmerge.storage import MANIFEST, intact
from qdmerge_zoo import llm, segmentation
from qdmerge_zoo._zoos import Zoos, ZooSpec


class Spec(ZooSpec):
    """A specification of nothing but a seed."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("task",)

    def dump(self) -> str:
        return self.model_dump_json()


@pytest.fixture
def built() -> list[Path]:
    """Where something was built."""
    return []


@pytest.fixture
def zoos(built: list[Path]) -> Zoos[Spec]:
    def build(spec: Spec, folder: Path, progress: object) -> None:
        built.append(folder)
        (folder / "recipe.json").write_text(spec.dump())

    def build_all(spec: Spec, zoo: Path, folder: Path, progress: object) -> None:
        assert intact(zoo)
        built.append(folder)
        (folder / "all").mkdir()
        (folder / "all" / "weights").write_text(spec.dump())

    def cost(spec: Spec, folder: Path) -> dict[str, float]:
        return {"steps": 1, "examples": 2, "seconds": float((folder / "all").is_dir())}

    def of(seed: int, conflict: int, tasks: int) -> Spec:
        return Spec(seed=seed)

    return Zoos("toy", "The toy models", of, ("task",), build, build_all, cost)


def test_builders_at_once_build_once(zoos: Zoos, built: list[Path], tmp_path: Path) -> None:
    threads = [threading.Thread(target=zoos.zoo, args=(Spec(), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_another_seed_is_another_zoo(zoos: Zoos, tmp_path: Path) -> None:
    entries = [zoos.zoo(Spec(seed=seed), tmp_path) for seed in (0, 1)]
    assert [entry.name for entry in entries] == [f"toy-tiny-{Spec(seed=k).key}" for k in (0, 1)]
    assert [Spec.model_validate_json((e / "recipe.json").read_text()).seed for e in entries] == [
        0,
        1,
    ]


def test_what_a_killed_builder_left_is_cleared(zoos: Zoos, tmp_path: Path) -> None:
    left = tmp_path / f"toy-tiny-{Spec().key}.partial" / "base"
    left.mkdir(parents=True)
    entry = zoos.zoo(Spec(), tmp_path)
    assert {path.name for path in entry.iterdir()} == {"recipe.json", MANIFEST}
    assert not left.parent.exists()


@pytest.mark.parametrize("breakage", ["changed", "missing manifest", "a file instead"])
def test_whatever_is_in_the_way_is_replaced(
    zoos: Zoos, built: list[Path], tmp_path: Path, breakage: str
) -> None:
    entry = zoos.zoo(Spec(), tmp_path)
    if breakage == "changed":
        (entry / "recipe.json").write_text("{}")
    else:
        (entry / MANIFEST).unlink()
    if breakage == "a file instead":
        (entry / "recipe.json").unlink()
        entry.rmdir()
        entry.write_text("")
    assert not intact(entry)
    assert intact(zoos.zoo(Spec(), tmp_path))
    assert len(built) == 2


def test_the_model_of_all_tasks_stands_beside_its_zoo(
    zoos: Zoos, built: list[Path], tmp_path: Path
) -> None:
    assert zoos.multitask_cost(Spec(), tmp_path) is None
    made = zoos.multitask(Spec(), tmp_path)
    entry = zoos.zoo(Spec(), tmp_path)
    assert made == entry.with_name(f"{entry.name}-all") / "all"
    assert zoos.multitask(Spec(), tmp_path) == made
    assert len(built) == 2
    assert zoos.multitask_cost(Spec(), tmp_path) == {"steps": 1, "examples": 2, "seconds": 1.0}
    (made / "weights").unlink()
    assert zoos.multitask_cost(Spec(), tmp_path) is None


def test_a_cache_that_cannot_be_written_is_named(zoos: Zoos, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match=r"The toy models .*QDMERGE_CACHE"):
        zoos.zoo(Spec(), tmp_path / "cache")


def test_zoos_are_kept_where_the_environment_says(
    zoos: Zoos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path))
    assert zoos.zoo(Spec(seed=3)).parent == tmp_path


def test_zoos_of_before_are_found_under_their_names() -> None:
    names = [kind.ZOOS._entry(kind.ZooSpec(), "c").name for kind in (llm, segmentation)]
    assert names == ["llm-tiny-v1-0dd7bc10713d", "segmentation-tiny-v1-047768cf6859"]
