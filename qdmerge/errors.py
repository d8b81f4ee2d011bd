"""Errors meant for people: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable


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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on a mistyped name: ``"; did you mean 'x'?"`` or ``"."``."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else "."


class Hint(FutureWarning):
    """A warning meant for people; the CLI prints just its message, once."""


def hint_renamed(old: str, new: str) -> None:
    """Hint that a name that is still read has another one now."""
    warnings.warn(f"'{old}' is now '{new}'", Hint, stacklevel=3)
