"""The protocol of a domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qdmerge.backend._domain import Evaluation, Measure, Task
from qdmerge.errors import hint_renamed

if TYPE_CHECKING:
    from qdmerge.spaces import Guide, Space


class GenomeBackend(Protocol):
    """A domain. Subclass it to inherit the optional parts, or match the whole protocol.

    :attr:`tasks`, :attr:`space` and :meth:`evaluate` are required; everything else is optional.

    Attributes:
        tasks: The K tasks, in the order of the score columns.
        space: The space whose solutions ``x`` this backend turns into models.
        measures: The M measures of its own, in the order of the columns; () for none.
        guide: What the experts say on unlabeled items, for guided searches; None for none.
        side_tasks: Tasks that the search does not see, such as skills that merging may cost. At
            the end of a run, base, experts, average, aggregate and result are scored on them by
            ``evaluate(xs, SIDE)`` and reported relative to the base. Nothing is chosen by these
            scores. () for none.
        noisy: Whether two evaluations of one model may differ. A search then evaluates leading
            elites again, and its archives keep the means.
    """

    tasks: Sequence[Task]
    space: Space
    measures: Sequence[Measure] = ()
    guide: Guide | None = None
    side_tasks: Sequence[Task] = ()
    noisy: bool = False

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Score models on all tasks.

        Args:
            xs: ``(n, dim)`` solutions of :attr:`space`.
            split: "validation", "selection" or "test", disjoint by content; or, for a backend
                with side tasks, ``qdmerge.backend.SIDE``.

        Returns:
            Scores of the n models, in order. Columns are :attr:`tasks`; for ``SIDE`` they are
            :attr:`side_tasks`, without measures.
        """
        ...

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of solution ``x`` as a checkpoint that loads without qdmerge."""
        raise NotImplementedError(f"{type(self).__name__} cannot export models")

    def export_adapter(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base: ``qdmerge export --adapter``.

        A :class:`~qdmerge.spaces.WeightSpace` of LoRA experts has a method of that name.
        """
        raise NotImplementedError(
            f"{type(self).__name__} exports no LoRA adapters; leave --adapter out for a whole model"
        )

    def illustrate(self, models: Mapping[str, np.ndarray], folder: Path) -> Sequence[Path]:
        """Draw what models do on held-out examples, in figures of the domain's own.

        A run calls it at its end; exceptions become warnings, and the run still succeeds.
        ``qdmerge report RUN --examples`` calls it again.

        Args:
            models: Name to ``(dim,)`` solution: base, experts (``"expert:NAME"``), the plain
                average if the space can merge, and last the chosen model under its name in the
                results.
            folder: The run's folder of figures; it exists. Files of the same names are replaced.

        Returns:
            Paths of the figures in ``folder``.
        """
        return ()

    def facts(self) -> dict[str, Any]:
        """Return JSON-able facts for the run's log: device, number of items, sandbox, and so on.

        ``"weights"`` and ``"items"``, if given, are content hashes; a run is not resumed if they
        have changed.
        """
        return {}

    def close(self) -> None:
        """Release what the backend holds."""
        return None  # an empty body would count as abstract for type checkers  # noqa: RET501


def side_tasks(backend: GenomeBackend) -> Sequence[Task]:
    """Return a backend's side tasks; () for one that has none."""
    found: Sequence[Task] = getattr(backend, "side_tasks", ())
    if not found and (found := getattr(backend, "reported", ())):
        hint_renamed(f"{type(backend).__name__}.reported", "side_tasks")
    return found
