"""Errors meant for people: what was wrong, where, and what to do."""

from __future__ import annotations


class QDMergeError(Exception):
    """Base of every error that qdmerge raises on purpose; the CLI prints just its message."""


class ConfigError(QDMergeError):
    """A configuration, a name or an option is wrong."""


class CheckpointError(QDMergeError):
    """A checkpoint is missing, damaged, or does not fit the others."""


class RunError(QDMergeError):
    """A run folder cannot be used, or a run cannot go on."""


class EvaluationError(QDMergeError):
    """A backend returned something that is not an evaluation, or evaluations keep failing."""


class UnsupportedError(QDMergeError):
    """A part cannot work with another part, or a facility is missing on this machine."""
