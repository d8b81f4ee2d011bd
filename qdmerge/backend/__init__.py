"""What a domain brings: tasks, a space of solutions, and the evaluation of models."""

from __future__ import annotations

from qdmerge.backend._config import BackendConfig, SpaceFactory
from qdmerge.backend._domain import SIDE, SPLITS, Evaluation, Measure, Task
from qdmerge.backend._protocol import GenomeBackend, side_tasks
from qdmerge.checkpoints import Progress

__all__ = [
    "SIDE",
    "SPLITS",
    "BackendConfig",
    "Evaluation",
    "GenomeBackend",
    "Measure",
    "Progress",
    "SpaceFactory",
    "Task",
    "side_tasks",
]
