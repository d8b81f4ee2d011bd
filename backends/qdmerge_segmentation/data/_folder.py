"""A folder of images and masks, looked at by name; the pixels are read elsewhere."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qdmerge.errors import ConfigError, nearest

#: Endings of the files that count as images and masks, in lower case; others are ignored.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_INDEX = "index.csv"
_COLUMNS = ("file", "source", "group")


@dataclass(frozen=True)
class Sample:
    """An image and its mask.

    Attributes:
        file: Name of the image's file, unique in its folder.
        image: Path of the image.
        mask: Path of the mask.
        group: What the image shares with others that must fall into the same split (patient,
            video, photograph); None if no ``index.csv`` says it.
        source: Where the image comes from; "" if not known.
    """

    file: str
    image: Path
    mask: Path
    group: str | None
    source: str = ""


def find_samples(folder: Path) -> list[Sample]:
    """Finds the images of a folder and their masks; looks at names only.

    ``folder/images/`` and ``folder/masks/`` hold PNG, JPEG or TIFF files; the mask of an image is
    the one of the same stem, its ending may be another. Hidden files, files of other kinds and
    masks without an image are ignored. ``folder/index.csv`` may say more: UTF-8, separated by
    commas, with the columns ``file`` (name of an image; all of them, once each), ``source`` and
    ``group``, the latter two optional and possibly empty.

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
    """Stem to file, sorted by name."""
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
    """File to its source and group; empty if there is no index."""
    if not path.is_file():
        return {}
    try:
        # Spreadsheet programs put a byte order mark first.
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
            raise ConfigError(f"{path}, line {line}: not as many fields as there are columns")
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
    # A column that is misspelled must not pass for one that was left out: without its groups, the
    # frames of one video would fall into several splits.
    for column in columns:
        if column not in _COLUMNS or columns.count(column) > 1:
            known = f"Known: {', '.join(_COLUMNS)}, separated by commas."
            twice = " is there twice." if column in _COLUMNS else nearest(column, _COLUMNS)
            raise ConfigError(f"{path}: column '{column}'{twice} {known}")
    if "file" not in columns:
        raise ConfigError(f"{path}: no column 'file'; the first line names the columns")


def _listing(names: Iterable[str], limit: int = 3) -> str:
    """The first few of many names, and how many there are."""
    quoted = [f"'{name}'" for name in names]
    shown = ", ".join(quoted[:limit])
    return shown if len(quoted) <= limit else f"{shown}, ... ({len(quoted)} in all)"
