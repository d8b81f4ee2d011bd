"""The images of a folder, by name, and the split that each belongs to; reads no pixels."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from qdmerge.errors import ConfigError, nearest
from qdmerge.storage import file_digest

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of image and mask files, in lower case; other files are ignored."""

_INDEX = "index.csv"
_COLUMNS = ("file", "source", "group")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Sample:
    """An image and its mask.

    Attributes:
        file: Name of the image's file, unique in its folder.
        image: Path of the image.
        mask: Path of the mask.
        group: What the image shares with others of the same split (patient, video, photograph);
            None if no ``index.csv`` names it.
        source: Where the image comes from; "" if unknown.
    """

    file: str
    image: Path
    mask: Path
    group: str | None
    source: str = ""


def find_samples(folder: Path) -> list[Sample]:
    """Find the images of a folder and their masks by name.

    ``folder/images/`` and ``folder/masks/`` hold PNG, JPEG or TIFF files; image and mask have the
    same stem. Hidden files, files of other kinds and masks without an image are ignored.
    ``folder/index.csv`` is optional: UTF-8, separated by commas, with the columns ``file`` (name of
    an image; every image once) and, optional and possibly empty, ``source`` and ``group``.

    Returns:
        The samples, sorted by file.

    Raises:
        ConfigError: A folder or mask is missing, two files have the same stem, or the index does
            not fit the images.
    """
    folder = Path(folder)
    images = _by_stem(_subfolder(folder, "images"))
    masks = _by_stem(_subfolder(folder, "masks"))
    if not images:
        raise ConfigError(f"{folder / 'images'}: no images ({', '.join(SUFFIXES)}) here")
    missing = [stem for stem in images if stem not in masks]
    if missing:
        unused = [path.stem for stem, path in masks.items() if stem not in images]
        raise ConfigError(
            f"{folder / 'masks'}: no mask for {_listing(images[stem].name for stem in missing)}; "
            f"a mask has the stem of its image, '{missing[0]}'{nearest(missing[0], unused)}"
        )
    index = _read_index(folder / _INDEX, [path.name for path in images.values()])
    samples = []
    for stem, path in images.items():
        source, group = index.get(path.name, ("", None))
        samples.append(Sample(path.name, path, masks[stem], group, source))
    return sorted(samples, key=lambda sample: sample.file)


def find_images(folder: Path) -> list[Path]:
    """Find the PNG, JPEG or TIFF files of a folder, in an order that their names decide.

    Raises:
        ConfigError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"no folder '{folder}'{_neighbor(folder)}")
    images = _by_stem(folder).values()
    if not images:
        raise ConfigError(f"{folder}: no images ({', '.join(SUFFIXES)}) here")
    return sorted(images, key=lambda path: _digest(path.name))


def _subfolder(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"no folder '{folder}'{_neighbor(folder)}")
    if not (folder / name).is_dir():
        raise ConfigError(f"{folder}: no folder '{name}' here{_neighbor(folder / name)}")
    return folder / name


def _neighbor(path: Path) -> str:
    try:
        return nearest(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def _by_stem(folder: Path) -> dict[str, Path]:
    """Map stems to files, sorted by name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            other = found.setdefault(path.stem, path)
            if other != path:
                raise ConfigError(
                    f"{folder}: '{other.name}' and '{path.name}' have the same stem, by which "
                    "images and masks are matched; rename or remove one"
                )
    return found


def _read_index(path: Path, images: list[str]) -> dict[str, tuple[str, str | None]]:
    """Map each file to its source and group; empty if there is no index."""
    if not path.is_file():
        return {}
    try:
        # Spreadsheet programs write a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(path, list(reader.fieldnames or ()))
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except (OSError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    found: dict[str, tuple[str, str | None]] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise ConfigError(f"{path}, line {line}: needs one field per column")
        file = row["file"].strip()
        if file in found:
            raise ConfigError(f"{path}, line {line}: '{file}' was listed before")
        if file not in images:
            raise ConfigError(f"{path}, line {line}: no image '{file}'{nearest(file, images)}")
        found[file] = (row.get("source", "").strip(), row.get("group", "").strip() or None)
    unlisted = [name for name in images if name not in found]
    if unlisted:
        raise ConfigError(f"{path}: no line for {_listing(unlisted)}; list every image, or none")
    return found


def _check_columns(path: Path, columns: list[str]) -> None:
    # A misspelled column must not pass for one that was left out: without its groups, the frames of
    # one video would fall into several splits.
    for column in columns:
        if column not in _COLUMNS or columns.count(column) > 1:
            known = f"Known: {', '.join(_COLUMNS)}, separated by commas."
            twice = " occurs twice." if column in _COLUMNS else nearest(column, _COLUMNS)
            raise ConfigError(f"{path}: column '{column}'{twice} {known}")
    if "file" not in columns:
        raise ConfigError(f"{path}: no column 'file'; the first line names the columns")


def _listing(names: Iterable[str], limit: int = 3) -> str:
    """Join the first few names, and their number if there are more."""
    quoted = [f"'{name}'" for name in names]
    shown = ", ".join(quoted[:limit])
    return shown if len(quoted) <= limit else f"{shown}, ... ({len(quoted)} in all)"


def split_samples(
    samples: Sequence[Sample], fractions: Mapping[str, float], seed: int
) -> dict[str, list[Sample]]:
    """Split images by group.

    An image without a group has the SHA-256 of its file, so that copies stay together (files saved
    again differ in bytes: name their group in ``index.csv``). Groups are sorted by the SHA-256 of
    ``"{seed}:{group}"``, and cut where the number of *images* comes nearest to each cumulative
    fraction, with at least one group per split.

    Args:
        samples: The images of one folder, in any order.
        fractions: Split to its share of the images, in the order of the splits. If they sum to less
            than 1, the rest is unused.
        seed: Decides the order of groups and images.

    Returns:
        Split to its images, in an order that the seed decides: the first few of a split are as good
        as any.

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
            f"{empty} would be empty; add images, or make groups smaller"
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
    """Return how many groups of these sizes, in this order, lie before each edge."""
    before = [0, *accumulate(sizes)]
    cuts: list[int] = []
    for place, edge in enumerate(edges):
        first = cuts[-1] + 1 if cuts else 1
        last = len(sizes) - (len(edges) - 1 - place)  # one group is left for each later split
        target = edge * before[-1]
        cuts.append(min(range(first, last + 1), key=lambda cut: abs(before[cut] - target)))
    return cuts


def _groups(samples: Sequence[Sample]) -> list[str]:
    """Return the group of each sample."""
    owners: dict[str, Sample] = {}
    groups = []
    for sample in samples:
        try:
            digest = file_digest(sample.image)
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
