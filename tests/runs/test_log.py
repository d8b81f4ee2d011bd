"""The event log: durable lines, torn ends dropped, damage never guessed over."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.errors import RunError
from qdmerge.runs import read_events
from qdmerge.runs._log import EventLog

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def write(path, n):
    log = EventLog(path)
    for index in range(n):
        log.append("scores", index=index, scores=[0.1 * index, 1 / 3], text='é"\n')
    log.close()


@given(
    fields=st.dictionaries(
        st.text(min_size=1).filter(lambda k: k not in ("event", "time", "crc", "kind", "self")),
        values,
        max_size=4,
    )
)
def test_events_come_back_as_they_were(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = EventLog(path)
    log.append("ask", **fields)
    log.close()
    (event,) = read_events(path)
    assert {key: event[key] for key in fields} == fields
    assert event["event"] == "ask"


def test_a_torn_last_line_is_dropped_at_every_byte(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, 3)
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert [event["index"] for event in read_events(path)] == [0, 1]
    log = EventLog(path)
    log.append("scores", index=9)
    log.close()
    assert [event["index"] for event in read_events(path)] == [0, 1, 9]


@pytest.mark.parametrize("damage", [b"\x00" * 10, b"garbage", b'{"event":"scores","index":7}'])
def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path, damage):
    path = tmp_path / "events.jsonl"
    write(path, 3)
    lines = path.read_bytes().splitlines()
    lines[1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RunError, match="line 2 of 3 is damaged"):
        read_events(path)


def test_a_damaged_last_line_is_not_torn_but_an_error(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, 3)
    path.write_bytes(path.read_bytes().replace(b'"index":2', b'"index":7'))
    with pytest.raises(RunError, match="line 3 of 3 is damaged"):
        read_events(path)


@pytest.mark.parametrize("torn", [0, 30])
def test_every_flipped_bit_is_an_error_that_names_the_line_and_cuts_nothing(tmp_path, torn):
    path = tmp_path / "events.jsonl"
    write(path, 3)
    whole = path.read_bytes()
    tail = whole[:torn]
    for position in range(len(whole)):
        number = whole[:position].count(b"\n") + 1
        for bit in range(8):
            damaged = bytearray(whole + tail)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(RunError, match=f"line {number} of . is damaged"):
                EventLog(path)
            assert path.read_bytes() == damaged


def test_a_changed_score_is_noticed(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, 3)
    text = path.read_text()
    changed = text.replace('"index":1,"scores":[0.1,', '"index":1,"scores":[0.9,')
    assert changed != text
    path.write_text(changed)
    with pytest.raises(RunError, match=r"line 2 of 3 is damaged \(checksum"):
        read_events(path)


def test_numbers_that_json_has_not_are_refused(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        log.append("scores", scores=[float("nan")])


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, 2)
    # A limit on the size of files fails a write the way a full disk does.
    code = f"""
import resource
from pathlib import Path
from qdmerge.errors import RunError
from qdmerge.runs._log import EventLog
log = EventLog(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 10}, {resource.RLIM_INFINITY}))
try:
    log.append("scores", index=2)
except RunError as error:
    print(error)
log.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot write the log" in done.stdout, done.stderr
    assert "resume the run" in done.stdout
    assert [event["index"] for event in read_events(path)] == [0, 1]


def test_lines_are_plain_json(tmp_path):
    write(tmp_path / "events.jsonl", 2)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1]


def test_a_batch_is_flushed_to_the_disk_once_when_it_is_told(tmp_path, monkeypatch):
    """A killed process loses none of its events in any case."""
    flushed = []
    monkeypatch.setattr("os.fsync", flushed.append)
    log = EventLog(tmp_path / "events.jsonl")
    for kind in ("ask", "scores", "failed"):
        log.append(kind)
    assert not flushed
    assert [e["event"] for e in read_events(tmp_path / "events.jsonl")] == [
        "ask",
        "scores",
        "failed",
    ]
    for number, kind in enumerate(("tell", "final", "done"), start=1):
        log.append(kind)
        assert len(flushed) == number
    log.close()
