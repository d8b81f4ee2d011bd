"""Errors meant for people: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class QDMergeError(Exception):
    """Base of every error that qdmerge raises on purpose; the CLI prints just its message."""


class ConfigError(QDMergeError):
    """A configuration, a name or an option is wrong."""


class CheckpointError(QDMergeError):
    """A checkpoint is missing, damaged, or does not fit the others."""


class RunError(QDMergeError):
    """A run folder cannot be used, or a run cannot continue."""


class EvaluationError(QDMergeError, ValueError):
    """Scores are not those of the models that were evaluated, or evaluations keep failing."""


class UnsupportedError(QDMergeError):
    """A part cannot work with another part, or a facility is missing on this machine."""


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Turn the errors of a part, where it is built or first used, into a ConfigError that names it.

    Ours pass as they are.
    """
    try:
        yield
    except QDMergeError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"{part}: {kind}{' '.join(str(error).split())}") from error


def described(factory: object) -> str:
    """Return a short name of a factory, for messages."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return getattr(factory, "__qualname__", None) or repr(factory)


def kind_of(thing: object) -> str:
    """Return what an object is, for messages: "None", "the class X", "an object of type X"."""
    if thing is None:
        return "None"
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return f"an object of type {type(thing).__name__}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on a mistyped name: ``"; did you mean 'x'?"`` or ``"."``."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)  # YAML has others
    return f"; did you mean '{match[0]}'?" if match else "."


class Hint(FutureWarning):
    """A warning meant for people; the CLI prints just its message, once."""


def hint_renamed(old: str, new: str) -> None:
    """Hint that a name that is still read has another one now."""
    warnings.warn(f"'{old}' is now '{new}'", Hint, stacklevel=3)
