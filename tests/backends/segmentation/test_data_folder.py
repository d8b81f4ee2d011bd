from __future__ import annotations

from pathlib import Path

import pytest

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data import find_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images and masks, by name only."""
    for name in ("images/b.JPG", "images/a.png", "images/c.tiff"):
        touch(tmp_path / name)
    for name in ("masks/a.TIF", "masks/b.png", "masks/c.jpeg"):
        touch(tmp_path / name)
    return tmp_path


def touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        find_samples(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_masks_are_matched_by_stem(folder: Path) -> None:
    samples = find_samples(folder)
    assert [sample.file for sample in samples] == ["a.png", "b.JPG", "c.tiff"]
    assert [sample.image for sample in samples] == [folder / "images" / s.file for s in samples]
    assert [sample.mask.name for sample in samples] == ["a.TIF", "b.png", "c.jpeg"]
    assert {(sample.group, sample.source) for sample in samples} == {(None, "")}


def test_other_files_are_ignored(folder: Path) -> None:
    expected = find_samples(folder)
    for name in ("Thumbs.db", "notes.txt", ".a.png", "._b.JPG", ".DS_Store", "a.gif"):
        touch(folder / "images" / name)
        touch(folder / "masks" / name)
    (folder / "images" / "folder.png").mkdir()
    touch(folder / "masks" / "mask-without-image.png")
    assert find_samples(folder) == expected


def test_missing_folders_name_what_is_near(folder: Path) -> None:
    assert refusal(folder / "imagse") == f"no folder '{folder}/imagse'; did you mean 'images'?"
    assert "no folder" in refusal(Path("/no/such/folder"))
    assert refusal(folder / "images" / "a.png").startswith("no folder")
    (folder / "masks").rename(folder / "mask")
    assert refusal(folder) == f"{folder}: no folder 'masks' here; did you mean 'mask'?"


def test_a_folder_without_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.rename(path.with_suffix(".bmp"))
    assert refusal(folder).startswith(f"{folder}/images: no images (.png, .jpg")


def test_all_missing_masks_are_said_at_once(folder: Path) -> None:
    touch(folder / "images" / "007.png")
    touch(folder / "masks" / "007_mask.png")
    assert refusal(folder) == (
        f"{folder}/masks: no mask for '007.png'; a mask has the stem of its image, '007'; "
        "did you mean '007_mask'?"
    )
    for n in range(5):
        touch(folder / "images" / f"extra{n}.png")
    assert "'007.png', 'extra0.png', 'extra1.png', ... (6 in all)" in refusal(folder)


@pytest.mark.parametrize(("place", "twin"), [("images", "a.jpeg"), ("masks", "c.png")])
def test_stems_are_unique(folder: Path, place: str, twin: str) -> None:
    touch(folder / place / twin)
    message = refusal(folder)
    assert message.startswith(f"{folder}/{place}: ")
    assert f"'{twin}'" in message
    assert "same stem" in message


def test_an_index_gives_source_and_group(folder: Path) -> None:
    text = 'source,file,group\n"Smith, 2020",b.JPG,p1\n,a.png, p2 \nx,c.tiff,\n\n'
    (folder / "index.csv").write_text(text, encoding="utf-8-sig")
    found = {sample.file: (sample.source, sample.group) for sample in find_samples(folder)}
    assert found == {"b.JPG": ("Smith, 2020", "p1"), "a.png": ("", "p2"), "c.tiff": ("x", None)}


def test_an_index_may_have_the_files_alone(folder: Path) -> None:
    expected = find_samples(folder)
    (folder / "index.csv").write_text("file\na.png\nb.JPG\nc.tiff\n")
    assert find_samples(folder) == expected


ROWS = "a.png,,\nb.JPG,,\nc.tiff,,\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": no column 'file'"),
        ("group\np1\n", ": no column 'file'"),
        ("file,groups\na.png,p\n", ": column 'groups'; did you mean 'group'? Known: file,"),
        ("file;source;group\na.png;;p\n", ": column 'file;source;group'"),
        ("file,group,group\na.png,p,q\n", ": column 'group' occurs twice."),
        (f"file,source,group\n{ROWS}d.png,,\n", ", line 5: no image 'd.png'; did you mean"),
        ("file,source,group\na.png,,\n", ": no line for 'b.JPG', 'c.tiff'"),
        (f"file,source,group\n{ROWS}a.png,,p\n", ", line 5: 'a.png' was listed before"),
        ("file,source,group\na.png,x\n", ", line 2: needs one field per column"),
        ("file,source,group\na.png,x,y,z\n", ", line 2: needs one field per column"),
        ('file,source,group\na.png,"x,y\n', ": cannot be read (unexpected end of data)"),
    ],
)
def test_an_index_that_does_not_fit(folder: Path, text: str, said: str) -> None:
    (folder / "index.csv").write_text(text)
    message = refusal(folder)
    assert message.startswith(f"{folder}/index.csv")
    assert said in message


def test_an_index_must_be_utf8(folder: Path) -> None:
    (folder / "index.csv").write_bytes(f"file,source,group\n{ROWS}".encode() + b"\xe9,,")
    assert "index.csv: not UTF-8" in refusal(folder)
