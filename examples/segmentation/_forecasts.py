"""What can be told of a merge of two experts before any search, and how well that ranks pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import factorial

import numpy as np
import torch
from scipy.stats import permutation_test, rankdata

from qdmerge.checkpoints import TaskVectors
from qdmerge.merges import plain_average
from qdmerge.runs import BuildBackend
from qdmerge.settings import RunConfig
from qdmerge.spaces import singular_value_similarity, task_vector_cosine

FEW = 8
"""Validation images of a task that the cheapest forecast by images looks at."""
PERMUTATIONS = 9999


def forecasts(config: RunConfig, pair: tuple[str, str]) -> dict[str, float]:
    """Forecasts of a pair: from the task vectors alone, and from validation images.

    Those that look at images are scores relative to the own experts, the lower one of the two
    tasks: of the two experts' average (the middle of the straight line between them), and, to
    compare it with, of the base, which knows nothing of the experts.
    """
    backend = BuildBackend(config)()
    space = backend.space
    xs = np.stack([plain_average(space), *(space.seeds[name] for name in ("base", *pair))])
    average, base, *experts = backend.evaluate(xs, "validation").items
    backend.close()

    def kept(model: Mapping[str, np.ndarray], count: int | None = None) -> float:
        return min(
            model[task][:count].mean() / max(expert[task][:count].mean(), 1e-9)
            for task, expert in zip(pair, experts, strict=True)
        )

    ratio, agreement = norms_and_signs(space.vectors, *pair)
    return {
        "similarity s": singular_value_similarity(space.vectors, *pair),
        "task vector cosine": task_vector_cosine(space.vectors, *pair),
        "norm ratio": ratio,
        "sign agreement": agreement,
        "base on validation": kept(base),
        f"average on {FEW} images": kept(average, FEW),
        "average on validation": kept(average),
    }


def norms_and_signs(vectors: TaskVectors, a: str, b: str) -> tuple[float, float]:
    """How unlike in size two task vectors are, and how often they point the same way.

    Args:
        vectors: The base and its experts.
        a: Name of one expert.
        b: Name of the other one.

    Returns:
        The smaller of the two norms over the larger one; and, among the weights that both
        experts changed, the share that both changed in the same direction. NaN where an expert
        changed nothing.
    """
    squares = torch.zeros(2, dtype=torch.float64)
    both = same = 0
    for name in filter(vectors.floating, vectors.names):
        first, second = (vectors.delta(expert, name).double() for expert in (a, b))
        squares += torch.stack([(first**2).sum(), (second**2).sum()])
        signs = first.sign() * second.sign()
        both += int((signs != 0).sum())
        same += int((signs > 0).sum())
    if not (squares > 0).all() or not both:
        return np.nan, np.nan
    return float((squares.min() / squares.max()).sqrt()), same / both


def rank_correlation(
    forecasts: Sequence[Sequence[float]], outcomes: Sequence[Sequence[float]], experts: int
) -> tuple[float, float]:
    """Spearman correlation over the pairs of each zoo, its mean over zoos, and its p-value.

    Pairs of one zoo share experts and are not independent, so a permutation relabels the experts
    of each zoo, not its pairs (Mantel 1967, Cancer Research 27(2)).

    Args:
        forecasts: Per zoo one value per pair, in the order of ``itertools.combinations``.
        outcomes: The same.
        experts: Number of experts of a zoo.

    Returns:
        The correlation, 0 in a zoo where all pairs are alike, and the two-sided p-value, exact
        where there are at most 9999 relabelings.
    """
    pairs = np.triu_indices(experts, 1)
    told = []
    for forecast in forecasts:
        matrix = np.zeros((experts, experts))
        matrix[pairs] = _ranks(forecast)
        told.append(matrix + matrix.T)
    ranks = [_ranks(outcome) for outcome in outcomes]

    def correlation(*labels: np.ndarray, axis: int) -> np.ndarray:
        each = []
        for matrix, outcome, own in zip(told, ranks, labels, strict=True):
            order = own.astype(int)
            each.append(matrix[order[..., pairs[0]], order[..., pairs[1]]] @ outcome)
        return np.round(np.mean(each, axis=0), 12)  # rounding must not part equal ones

    tested = permutation_test(
        [np.arange(experts)] * len(told),
        correlation,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(tested.statistic), float(min(tested.pvalue, 1.0))


def smallest_p(experts: int, zoos: int) -> float:
    """The smallest p-value that :func:`rank_correlation` can give."""
    return 2 / min(factorial(experts) ** zoos, PERMUTATIONS + 1)


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks of length 1 about 0, so that a product of two is Spearman's correlation."""
    ranks = rankdata(values)
    ranks -= ranks.mean()
    return ranks / (np.linalg.norm(ranks) or 1.0)
