"""The parts that the laboratory brings, by entry point ``qdmerge.parts``."""

from __future__ import annotations

from collections.abc import Mapping

from qdmerge.parts import Entry

PARTS: Mapping[str, Mapping[str, Entry]] = {
    "emitter": {
        "random": Entry("qdmerge.compare:RandomEmitter", "random search, a baseline"),
        "scalar_cma_es": Entry(
            "qdmerge.compare:CMAESEmitter",
            "CMA-ES on one number of all task scores, without the archive: a baseline",
        ),
        "nsga2": Entry(
            "qdmerge.compare:NSGA2Emitter",
            "NSGA-II over all task scores, without the archive: a baseline",
        ),
        "m2n2": Entry(
            "qdmerge.compare:M2N2Emitter",
            "natural niches (M2N2): a population that competes for items, a baseline",
        ),
    }
}
"""Kind to name to entry."""
