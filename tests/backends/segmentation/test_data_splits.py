from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data import Sample, split_samples

FRACTIONS = {"train": 0.5, "validation": 0.15, "selection": 0.1, "test": 0.25}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of different content; a split looks at their bytes only."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{n:03}.png" for n in range(60)]
    for path in paths:
        path.write_text(path.name)
    return paths


def make(files: list[Path], groups: list[str | None]) -> list[Sample]:
    return [Sample(f.name, f, f, group) for f, group in zip(files, groups, strict=False)]


groups_of_images = st.lists(st.integers(0, 20), min_size=4, max_size=60).map(
    lambda numbers: [None if number == 0 else f"g{number}" for number in numbers]
)


def count(samples: list[Sample]) -> int:
    return len({sample.group or sample.file for sample in samples})


@given(groups=groups_of_images, seed=st.integers(0, 2**32))
def test_splits_are_disjoint_by_group_and_complete(
    files: list[Path], groups: list[str | None], seed: int
) -> None:
    samples = make(files, groups)
    assume(count(samples) >= len(FRACTIONS))
    splits = split_samples(samples, FRACTIONS, seed)
    assert list(splits) == list(FRACTIONS)
    assert all(splits.values())
    everything = [sample for split in splits.values() for sample in split]
    assert sorted(everything, key=lambda sample: sample.file) == samples
    owner: dict[str, str] = {}
    for split, members in splits.items():
        for sample in members:
            assert owner.setdefault(sample.group or sample.file, split) == split


@given(groups=groups_of_images, seed=st.integers(0, 2**32), random=st.randoms())
def test_the_order_of_the_samples_does_not_matter(
    files: list[Path], groups: list[str | None], seed: int, random: Random
) -> None:
    samples = make(files, groups)
    assume(count(samples) >= len(FRACTIONS))
    shuffled = random.sample(samples, len(samples))
    assert split_samples(shuffled, FRACTIONS, seed) == split_samples(samples, FRACTIONS, seed)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_another_seed_gives_other_splits(files: list[Path], first: int, second: int) -> None:
    assume(first != second)
    samples = make(files, [f"g{n}" for n in range(60)])
    one, other = (split_samples(samples, FRACTIONS, seed) for seed in (first, second))
    assert {s.file for s in one["train"]} != {s.file for s in other["train"]}


@given(
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=10),
    weights=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    seed=st.integers(0, 100),
)
def test_each_cut_is_the_nearest_to_its_share_of_the_images(
    files: list[Path], sizes: list[int], weights: list[int], seed: int
) -> None:
    samples = make(files, [f"g{n}" for n, size in enumerate(sizes) for _ in range(size)])
    fractions = {f"s{n}": weight / sum(weights) for n, weight in enumerate(weights)}
    splits = split_samples(samples, fractions, seed)
    total, before, target = len(samples), 0, 0.0
    for split, fraction in list(fractions.items())[:-1]:
        before += len(splits[split])
        target += fraction * total
        # A cut is off by half of a group, unless an earlier or later split needed one group.
        if all(count(members) > 1 for members in splits.values()):
            assert abs(before - target) <= max(sizes) / 2 + 1e-9


def test_shares_of_the_images(files: list[Path]) -> None:
    splits = split_samples(make(files, [None] * 60), FRACTIONS, seed=0)
    assert [len(members) for members in splits.values()] == [30, 9, 6, 15]
    splits = split_samples(make(files, [None] * 60), {"train": 0.25, "test": 0.5}, seed=0)
    assert [len(members) for members in splits.values()] == [15, 30]


def test_images_not_groups_are_shared_out(files: list[Path]) -> None:
    """One patient has half of all images: by number of groups, a split would have 1 or 31."""
    samples = make(files, ["big"] * 30 + [f"g{n}" for n in range(30)])
    for seed in range(20):
        splits = split_samples(samples, {"train": 0.5, "test": 0.5}, seed)
        assert abs(len(splits["train"]) - 30) <= 15


def test_known_splits_stay(files: list[Path]) -> None:
    """Another hash or order would silently move test images into training."""
    splits = split_samples(make(files, [f"g{n // 3}" for n in range(24)]), FRACTIONS, seed=7)
    assert {split: sorted({s.group for s in part}) for split, part in splits.items()} == {
        "train": ["g1", "g2", "g3", "g5"],
        "validation": ["g6"],
        "selection": ["g7"],
        "test": ["g0", "g4"],
    }
    first = [sample.file for sample in splits["train"]][:4]
    assert first == ["016.png", "006.png", "003.png", "015.png"]


def test_the_first_few_of_a_split_are_of_many_groups(files: list[Path]) -> None:
    samples = make(files, [f"g{n // 6}" for n in range(60)])
    train = split_samples(samples, {"train": 0.8, "test": 0.2}, seed=0)["train"]
    assert count(train[:12]) >= 5


def test_copies_of_an_image_stay_together(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.png" for n in range(40)]
    for n, path in enumerate(files):
        path.write_text(str(n // 2))
    splits = split_samples(make(files, [None] * 40), FRACTIONS, seed=3)
    for members in splits.values():
        contents = [sample.image.read_text() for sample in members]
        assert all(contents.count(text) == 2 for text in contents)


@pytest.mark.parametrize("other", ["p2", None])
def test_copies_in_different_groups_are_refused(tmp_path: Path, other: str | None) -> None:
    files = [tmp_path / f"{n}.png" for n in range(6)]
    for n, path in enumerate(files):
        path.write_text(str(n))
    files[5].write_text("2")
    with pytest.raises(ConfigError, match=r"'2\.png' and '5\.png' are the same image"):
        split_samples(make(files, ["p1"] * 5 + [other]), FRACTIONS, seed=0)


def test_too_few_groups_say_which_split_stays_empty(files: list[Path]) -> None:
    samples = make(files, ["p1", "p1", "p2"])
    with pytest.raises(ConfigError) as caught:
        split_samples(samples, FRACTIONS, seed=0)
    assert str(caught.value).startswith(
        "3 images in 2 groups cannot fill 4 splits: 'selection', 'test' would be empty"
    )


@given(st.integers(0, 100))
def test_as_many_groups_as_splits_are_enough(files: list[Path], seed: int) -> None:
    samples = make(files, ["a"] * 40 + ["b", "c", "d"])
    splits = split_samples(samples, FRACTIONS, seed)
    assert [count(members) for members in splits.values()] == [1, 1, 1, 1]


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5, "b": 0.0}, {"a": 0.7, "b": 0.4}])
def test_fractions_must_be_shares(files: list[Path], fractions: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="positive and sum to at most 1"):
        split_samples(make(files, [None] * 9), fractions, seed=0)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.png: cannot be read \(No such file"):
        split_samples(make([tmp_path / "gone.png"], [None]), {"train": 1.0}, seed=0)
