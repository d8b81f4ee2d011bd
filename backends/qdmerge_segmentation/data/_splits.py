"""Which split an image belongs to: decided by its group, never by its place in a list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data._folder import Sample

_ROUNDING = 1e-9


def split_samples(
    samples: Sequence[Sample], fractions: Mapping[str, float], seed: int
) -> dict[str, list[Sample]]:
    """Splits images by group.

    The group of an image that names none is the SHA-256 of its file, so that copies stay together
    (copies that were saved anew differ in bytes: name their group in ``index.csv``). Groups are
    put in the order of the SHA-256 of ``"{seed}:{group}"``, and this row is cut where the number of
    *images* comes nearest to each cumulative fraction, but so that every split gets a group. Cuts
    by the number of groups would stray further, as groups differ in size.

    Args:
        samples: The images of one folder, in any order.
        fractions: Split to its share of the images; the splits are cut in this order. What is
            missing to 1 is left out.
        seed: Another seed, other splits.

    Returns:
        Split to its images, in an order drawn by the seed, too: the first few of a split are as
        good as any.

    Raises:
        ConfigError: There are fewer groups than splits, images of different groups are identical,
            a file cannot be read, or the fractions are not positive or sum to more than 1.
    """
    edges = list(accumulate(fractions.values()))
    if not fractions or min(fractions.values()) <= 0 or edges[-1] > 1 + _ROUNDING:
        raise ConfigError(f"fractions must be positive and sum to at most 1; got {dict(fractions)}")
    groups: dict[str, list[Sample]] = {}
    for sample, group in zip(samples, _groups(samples), strict=True):
        groups.setdefault(group, []).append(sample)
    if len(groups) < len(fractions):
        empty = ", ".join(f"'{split}'" for split in list(fractions)[len(groups) :])
        raise ConfigError(
            f"{len(samples)} images in {len(groups)} groups cannot fill {len(fractions)} splits: "
            f"{empty} would be empty; more images are needed, or smaller groups"
        )
    drawn = sorted(groups, key=lambda group: (_digest(f"{seed}:{group}"), group))
    cuts = _cuts([len(groups[group]) for group in drawn], edges)
    found = {}
    for split, start, stop in zip(fractions, [0, *cuts], cuts, strict=False):
        members = [sample for group in drawn[start:stop] for sample in groups[group]]
        found[split] = sorted(members, key=lambda sample: _digest(f"{seed}:{sample.file}"))
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _cuts(sizes: Sequence[int], edges: Sequence[float]) -> list[int]:
    """How many groups lie before each edge, for groups of these sizes in this order."""
    before = [0, *accumulate(sizes)]
    cuts: list[int] = []
    for place, edge in enumerate(edges):
        first = cuts[-1] + 1 if cuts else 1
        last = len(sizes) - (len(edges) - 1 - place)  # one group is left for each later split
        target = edge * before[-1]
        cuts.append(min(range(first, last + 1), key=lambda cut: abs(before[cut] - target)))
    return cuts


def _groups(samples: Sequence[Sample]) -> list[str]:
    """The group of each sample."""
    owners: dict[str, Sample] = {}
    groups = []
    for sample in samples:
        try:
            with sample.image.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"{sample.image}: cannot be read ({error.strerror})") from error
        other = owners.setdefault(digest, sample)
        if other.group != sample.group:
            first, second = sorted((other.file, sample.file))
            raise ConfigError(
                f"{sample.image.parent}: '{first}' and '{second}' are the same image in different "
                "groups; give both the same group in index.csv, or remove one"
            )
        groups.append(digest if sample.group is None else sample.group)
    return groups
