from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qdmerge.errors import CheckpointError, ConfigError, RunError
from qdmerge.storage import (
    MANIFEST,
    building_seconds,
    built_once,
    cache_dir,
    file_digest,
    intact,
    locked,
    new_folder,
    parse_yaml,
    read_json,
    read_json_or_empty,
    write_json,
    write_whole,
    written_once,
)
from tests.damage import DEEP, LAUGHS, ODD, ODD_YAML


@pytest.mark.parametrize("content", ["wört", "wört".encode(), lambda p: p.write_text("wört")])
def test_a_file_replaces_the_one_before(tmp_path: Path, content: object) -> None:
    file = tmp_path / "facts.txt"
    for old in (None, "old"):
        if old:
            file.write_text(old)
        write_whole(file, content)  # type: ignore[arg-type]
        assert file.read_text(encoding="utf-8") == "wört"
        assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    def half(part: Path) -> None:
        assert part.parent == tmp_path
        part.write_text("half")
        raise OSError("disk full")

    file = tmp_path / "facts.txt"
    file.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, half)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_json_survives(tmp_path: Path) -> None:
    write_json(tmp_path / "facts.json", {"a": [1, None]})
    assert read_json(tmp_path / "facts.json") == {"a": [1, None]}
    assert (tmp_path / "facts.json").read_text().endswith("]\n}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "facts: cannot be read (No such file or directory)"),
        (b"{", "facts: not valid JSON (Expecting property name"),
        (b"\xff", "facts: not valid JSON ("),
        (b"[1]", "facts: expected a JSON object"),
    ],
)
def test_what_is_no_json_object_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "facts"
    if content is not None:
        file.write_bytes(content)
    for error in (RunError, CheckpointError):
        with pytest.raises(error) as raised:
            read_json(file, error)
        assert str(raised.value).startswith(f"{tmp_path}/{message}")
    assert read_json_or_empty(file) == {}


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with new_folder(target) as folder:
        fill(folder)
        assert not target.exists()
    assert (target / "facts").read_text() == "facts"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_fails_vanishes(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "model") as folder:
            fill(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_no_other_s_place(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    with pytest.raises(OSError, match="model"), new_folder(tmp_path / "model"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_what_is_left_of_a_named_partial_folder_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "partial" / "left").mkdir(parents=True)
    with new_folder(tmp_path / "model", tmp_path / "partial") as folder:
        (folder / "facts").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "facts"]


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", "busy"):  # noqa: SIM117
        with pytest.raises(RunError, match="^busy$"), locked(tmp_path / "lock", "busy"):
            pass
    with pytest.raises(ConfigError), locked(tmp_path / "lock", "busy"):
        raise ConfigError("the body's own")
    with locked(tmp_path / "lock", "busy"):
        pass


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=f"cannot write {tmp_path / 'file'}: "),
        locked(tmp_path / "file" / "lock", "busy"),
    ):
        pass


def test_a_digest_follows_the_content(tmp_path: Path) -> None:
    for text in ("a", "longer"):
        (tmp_path / "file").write_text(text)
        assert file_digest(tmp_path / "file") == hashlib.sha256(text.encode()).hexdigest()


def fill(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "weights").write_bytes(b"weights")
    (folder / "part" / MANIFEST).write_text("no manifest of ours")
    (folder / "facts").write_text("facts")


def never(folder: Path) -> None:
    raise AssertionError("the entry was built again")


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return built_once(tmp_path / "deep" / "entry", fill, "Things")


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("QDMERGE_CACHE")
    assert cache_dir().is_absolute()


def test_an_entry_is_built_when_it_is_not_there(entry: Path) -> None:
    assert (entry / "part" / "weights").read_bytes() == b"weights"
    assert intact(entry)
    names = set(json.loads((entry / MANIFEST).read_text()))
    assert names == {"facts", "part/weights", f"part/{MANIFEST}"}
    assert {path.name for path in entry.parent.iterdir()} <= {
        "entry",
        "entry.lock",
        "entry.seconds",
    }


def test_an_intact_entry_is_used_again(entry: Path) -> None:
    assert built_once(entry, never, "Things") == entry


def test_nobody_sees_an_entry_before_it_is_whole(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        fill(folder)
        assert folder.parent == tmp_path
        assert not (tmp_path / "entry").exists()

    assert intact(built_once(tmp_path / "entry", build, "Things"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda entry: (entry / "part" / "weights").write_bytes(b"Weights"),
    "truncated": lambda entry: (entry / "part" / "weights").write_bytes(b"weight"),
    "missing": lambda entry: (entry / "facts").unlink(),
    "more": lambda entry: (entry / "part" / "more").write_text(""),
    "moved": lambda entry: (entry / "facts").rename(entry / "part" / "facts"),
    "nested manifest": lambda entry: (entry / "part" / MANIFEST).write_text(""),
    "no manifest": lambda entry: (entry / MANIFEST).unlink(),
    "bad manifest": lambda entry: (entry / MANIFEST).write_text("{"),
    "nothing": lambda entry: shutil.rmtree(entry),
    "a file": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again(entry: Path, damage: str) -> None:
    DAMAGES[damage](entry)
    assert not intact(entry)
    assert intact(built_once(entry, fill, "Things"))
    assert (entry / "facts").read_text() == "facts"
    assert not (entry / "part" / "more").exists()


def test_what_a_killed_builder_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "entry.partial" / "half"
    left.mkdir(parents=True)
    entry = built_once(tmp_path / "entry", fill, "Things")
    assert not left.parent.exists()
    assert not (entry / "half").exists()


@pytest.mark.parametrize("error", [ConfigError("wrong"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def build(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(type(error)) as raised:
        built_once(tmp_path / "entry", build, "Things")
    assert raised.value is error
    assert {path.name for path in tmp_path.iterdir()} <= {"entry.lock"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError) as raised:
        built_once(tmp_path / "cache" / "entry", fill, "The tiny things")
    assert str(raised.value).startswith(f"The tiny things cannot be kept in {tmp_path / 'cache'} (")
    assert str(raised.value).endswith("Name a writable folder with space in $QDMERGE_CACHE.")


def test_a_cached_file_is_written_once_and_when_damaged(tmp_path: Path) -> None:
    written = []

    def write(file: Path) -> None:
        written.append(file)
        file.write_text("facts")

    def whole(file: Path) -> bool:
        return file.is_file() and file.read_text() == "facts"

    entry = tmp_path / "deep" / "entry"
    for damage in (None, "damaged", None):
        if damage:
            entry.write_text(damage)
        assert written_once(entry, write, whole, "Things") == entry
        assert entry.read_text() == "facts"
    assert len(written) == 2
    assert entry not in written


BUILDER = """
import sys, time
from pathlib import Path
from qdmerge.storage import built_once

def build(folder):
    print("built")
    time.sleep(0.5)
    (folder / "facts").write_text("facts")

built_once(Path(sys.argv[1]), build, "Things")
"""


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "entry")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(printed) == ["", "", "built\n"]
    assert intact(tmp_path / "entry")


def test_importing_is_cheap() -> None:
    code = "import sys, qdmerge.storage; print({'torch', 'numpy', 'filelock'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()"


def test_what_an_entry_cost_is_known_wherever_it_was_built(tmp_path: Path) -> None:
    def slow(folder: Path) -> None:
        built_once(tmp_path / "inner", lambda inner: time.sleep(0.05), "Parts")
        time.sleep(0.05)

    with building_seconds() as first:
        built_once(tmp_path / "entry", slow, "Things")
    with building_seconds() as again:
        built_once(tmp_path / "entry", never, "Things")
    built_once(tmp_path / "entry", never, "Things")
    assert first == again
    (seconds,) = first  # what it is built from is part of it
    assert seconds >= 0.1
    (tmp_path / "entry.seconds").unlink()  # of an earlier version
    with building_seconds() as unknown:
        built_once(tmp_path / "entry", never, "Things")
    assert unknown == []


SHORT = [odd for odd in (*ODD, *ODD_YAML) if len(odd) < DEEP]  # nesting takes long to parse


@pytest.mark.parametrize("odd", SHORT, ids=lambda odd: odd[:20])
def test_foreign_yaml_is_read_or_refused_in_a_line(odd: str) -> None:
    for text in (odd, f"a: {odd}", f"[1, {odd}]"):
        try:
            parse_yaml(text)
        except ValueError as error:
            assert str(error)
            assert "\n" not in str(error)


def test_aliases_that_stand_for_too_much_are_refused() -> None:
    assert parse_yaml("[&a {b: 1}, *a]") == [{"b": 1}, {"b": 1}]
    for text in (LAUGHS, "&a [*a]", "&a {b: *a}"):
        with pytest.raises(ValueError, match="its aliases stand for too much"):
            parse_yaml(text)
