"""Variation operators: small classes that take parents and a generator, nothing else."""

from __future__ import annotations

from qdmerge.operators._aggregation import softmax_aggregate
from qdmerge.operators._crossover import Crossover, LinearCrossover, NoCrossover
from qdmerge.operators._mutation import (
    Chain,
    ChildSVDMutation,
    GaussianMutation,
    GuidedMutation,
    Mutation,
    NoMutation,
    SVDMutation,
    chain,
)
from qdmerge.operators._selection import EliteSelection, RankSelection, Selection, UniformSelection

__all__ = [
    "Chain",
    "ChildSVDMutation",
    "Crossover",
    "EliteSelection",
    "GaussianMutation",
    "GuidedMutation",
    "LinearCrossover",
    "Mutation",
    "NoCrossover",
    "NoMutation",
    "RankSelection",
    "SVDMutation",
    "Selection",
    "UniformSelection",
    "chain",
    "softmax_aggregate",
]
