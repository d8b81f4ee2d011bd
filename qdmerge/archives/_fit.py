"""Whether an archive can be that of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdmerge.errors import ConfigError, UnsupportedError, kind_of

if TYPE_CHECKING:
    from qdmerge.archives._spec import ArchiveSpec

UNFIT_ARCHIVES: Mapping[str, str] = {
    "DensityArchive": "keeps no elites, so there would be nothing to merge",
    "CategoricalArchive": "has categories for axes, and scores are numbers",
    "DiscountArchive": "needs a network that is trained between turns, and a second archive that "
    "holds the elites",
}
"""pyribs' archives that cannot be a task's, to what the reason is."""

_FILLED = {"solution", "objective", "measures", "threshold", "index"}


def check_archive(archive: Any, spec: ArchiveSpec) -> None:
    """Check that what a factory made can be the archive of a task.

    An archive that holds elites is fine: the search goes on from them.

    Raises:
        ConfigError: It is no archive, or its axes or solutions are not those of the search.
        UnsupportedError: It is of a kind that a search cannot use.
    """
    kind = type(archive).__name__
    where = f"archive of task '{spec.task}' ({kind})"
    if reason := UNFIT_ARCHIVES.get(kind):
        raise UnsupportedError(f"{where} cannot be used: it {reason}")
    if not all(hasattr(archive, name) for name in ("add", "data", "measure_dim", "solution_dim")):
        raise ConfigError(
            f"archive of task '{spec.task}': the factory returned {kind_of(archive)}; it must "
            "return a pyribs archive"
        )
    if archive.solution_dim != spec.solution_dim:
        raise ConfigError(
            f"{where} is for solutions of {archive.solution_dim} coordinates, and the space has "
            f"{spec.solution_dim}: pass it solution_dim=spec.solution_dim"
        )
    if archive.measure_dim != len(spec.axes):
        raise ConfigError(
            f"{where} has axes for {archive.measure_dim} measures, and the search gives it "
            f"{len(spec.axes)}: {', '.join(axis.name for axis in spec.axes)}; pass it "
            "ranges=spec.ranges, and as many dims or bins"
        )
    if unfilled := sorted({*archive.field_list} - _FILLED):
        raise ConfigError(
            f"{where} has extra fields that nothing fills: {', '.join(unfilled)}; leave them out"
        )
