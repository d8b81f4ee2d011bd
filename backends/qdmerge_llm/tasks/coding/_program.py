"""Python answers inside the sandbox: calls a function, or checks what it returned elsewhere.

Runs as text in the batch runner (standard library only). Values travel as JSON of their own form
(``encode``, ``decode``), never pickled; the process that an answer runs in is given inputs only, so
that nothing there knows what is expected.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_TEST_CPU = 20  # seconds of a test, the reference's calls included
_AT_WORK = 0.01  # seconds of CPU that what is not idle uses, on however busy a machine
WARM_UP: dict[str, Any] = {
    "do": "call",
    "code": "import re, math, heapq, collections, itertools\ndef f(x):\n    return [x]",
    "entry": "f",
    "inputs": [{"type": "tuple", "value": [[1]]}],
    "cpu": [1],
    "total": 1,
    "idle": 10.0,
    "packages": None,
}


def encode(value: Any) -> Any:
    """Return a value as JSON; what JSON lacks is ``{"type": name, "value": ...}``, or "other".
    Subclasses and numpy's numbers count as their bases and sets are ordered, so equal values look
    alike.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and value.ndim == 0:
        value = value.item()
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if abs(number) < 1 << 1000 else {"type": "int", "value": hex(number)}
    if isinstance(value, float):
        return {"type": "float", "value": float.hex(value)}
    if isinstance(value, list):
        return [encode(member) for member in list.__iter__(value)]
    kinds: tuple[Any, ...] = (tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            members = [encode(member) for member in kind.__iter__(value)]
            ordered = members if kind is tuple else sorted(members, key=json.dumps)
            return {"type": kind.__name__, "value": ordered}
    if isinstance(value, dict):
        return {"type": "dict", "value": [[encode(k), encode(v)] for k, v in dict.items(value)]}
    if isinstance(value, complex):
        return {"type": "complex", "value": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, (bytes, bytearray)):
        return {"type": "bytes", "value": bytes(value).hex()}
    return {"type": "other", "value": type(value).__name__}


class Other:
    """A value of a type that does not travel; equal to none."""

    def __init__(self, name: str) -> None:
        self.name = name


def decode(text: Any) -> Any:
    """Return the value, of built-in types only, of :func:`encode`'s JSON. Another form raises
    ValueError, TypeError, KeyError or RecursionError.
    """
    if isinstance(text, list):
        return [decode(member) for member in text]
    if not isinstance(text, dict):
        return text
    kind, value = text["type"], text["value"]
    if kind == "float":
        return float.fromhex(value)
    if kind == "int":
        return int(value, 16)
    if kind in ("tuple", "set", "frozenset"):
        makers: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set}
        return makers.get(kind, frozenset)([decode(member) for member in value])
    if kind == "dict":
        return {decode(k): decode(v) for k, v in value}
    if kind == "complex":
        return complex(float.fromhex(value[0]), float.fromhex(value[1]))
    if kind == "bytes":
        return bytes.fromhex(value)
    return Other(str(value))


def _parsed(code: str) -> ast.Module:
    """Parse the longest beginning of a code that is Python; prose or a cut may follow."""
    lines = code.split("\n")
    while True:
        try:
            return ast.parse("\n".join(lines))
        except SyntaxError as error:
            end = min((error.lineno or len(lines)) - 1, len(lines) - 1)
            if end < 1:
                raise
            del lines[end:]


def define(code: str) -> dict[str, Any]:
    """Return the names that a code defines; all of it must run."""
    names: dict[str, Any] = {"__name__": "answer"}
    exec(compile(_parsed(code), "answer", "exec"), names)
    return names


class _TimeoutError(BaseException):
    """The time of a call is over; no handler of Exception takes it."""


@contextmanager
def _limited(cpu: float, idle: float) -> Iterator[None]:
    """Raise in what uses more CPU time, or none for as long as ``idle``; what goes on nevertheless
    ends the process.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used, stopped = time.process_time(), False
    last = int(used + cpu) + 2
    soft = last if hard == resource.RLIM_INFINITY else min(last, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))

    def stop(*_: Any) -> None:
        raise _TimeoutError

    def look(*_: Any) -> None:
        nonlocal used, stopped
        if time.process_time() - used >= _AT_WORK:
            used = time.process_time()
        elif stopped:
            os._exit(1)
        else:
            stopped = True
            raise _TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_PROF, cpu, 0.1)
    signal.setitimer(signal.ITIMER_REAL, idle, idle)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (before, hard))


def _call(payload: dict[str, Any]) -> str:
    """Call the function on each input up to the first that fails: ``[[ok, value, type, seconds],
    ...]``.
    """
    # Inputs first: what the answer defines must not come between.
    arguments = [decode(given) for given in payload["inputs"]]
    if payload["packages"]:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        sys.path.append(payload["packages"])
    with _limited(payload["total"], payload["idle"]):
        function = define(payload["code"])[payload["entry"]]
    results = []
    begin = time.process_time()
    for given, cpu in zip(arguments, payload["cpu"], strict=True):
        random.seed(0)
        start = time.process_time()
        try:
            left = min(cpu, payload["total"] - (start - begin))
            with _limited(max(left, 0.01), payload["idle"]):
                value = function(*given)
            seconds = time.process_time() - start
            if seconds > left:  # it took no notice
                raise _TimeoutError
            results.append(json.dumps([True, encode(value), type(value).__name__, seconds]))
        except BaseException:
            results.append('[false, null, "", 0]')
            break
    return f"[{', '.join(results)}]"


def _check(payload: dict[str, Any]) -> str:
    """Run ``check(candidate)``: "record" returns the calls of the reference as :func:`encode` does;
    "check" replays an answer's ``outputs``, "true" if called as then.
    """
    names: dict[str, Any] = {"__name__": "test"}
    exec(compile(payload["code"], "reference", "exec"), names)
    reference = names[payload["entry"]]
    record = payload["do"] == "record"
    outputs = iter([] if record else payload["outputs"])
    inputs: list[Any] = []

    def candidate(*given: Any) -> Any:
        inputs.append(encode(given))
        if record:
            return reference(*copy.deepcopy(given))
        ok, value, *_ = next(outputs)
        if not ok:
            raise AssertionError("the answer failed")
        return decode(value)

    random.seed(0)
    exec(compile(payload["test"], "test", "exec"), names)
    with _limited(_TEST_CPU, payload["idle"]):
        names["check"](candidate)
    return json.dumps(inputs if record else inputs == payload["inputs"])


def run(payload: dict[str, Any]) -> str:
    """Run the action of ``do``: "call", "record" or "check"."""
    return _call(payload) if payload["do"] == "call" else _check(payload)
