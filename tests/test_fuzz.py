"""Damaged files of every kind that is read: a value, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from qdmerge.errors import QDMergeError
from tests.readers import READERS, Reading


def check(reading: Reading, folder: Path, content: bytes) -> None:
    file = folder / reading.name
    file.write_bytes(content)
    try:
        reading.read(file)
    except QDMergeError as error:
        assert str(error).strip()
        assert reading.many or "\n" not in str(error)


@pytest.mark.parametrize("name", [name for name, reading in READERS.items() if reading.sound])
def test_files_as_they_should_be_are_read(name: str, tmp_path: Path) -> None:
    reading = READERS[name]
    reading.fill(tmp_path)
    (tmp_path / reading.name).write_bytes(reading.whole)
    reading.read(tmp_path / reading.name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "examples", [pytest.param(25, id="quick"), pytest.param(2000, marks=pytest.mark.slow, id="all")]
)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, examples: int, tmp_path: Path) -> None:
    reading = READERS[name]
    reading.fill(tmp_path)

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(reading.damaged())
    def fuzz(content: bytes) -> None:
        check(reading, tmp_path, content)

    fuzz()
