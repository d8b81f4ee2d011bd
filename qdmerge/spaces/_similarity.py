"""Similarity of two experts, from their task vectors alone."""

from __future__ import annotations

import math

import torch

from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import nearest
from qdmerge.spaces._factors import product_svd

_AT_ONCE = 2**24
"""Elements whose products are summed at once."""


def singular_value_similarity(vectors: TaskVectors, a: str, b: str) -> float:
    """Return the model similarity ``s`` of CycleQD's image experiments (arXiv 2410.14735).

    With ``sigma_k,l`` the singular values, descending, of expert k's task vector in matrix ``l``::

        s = mean over l of  <sigma_a,l, sigma_b,l> / (|sigma_a,l| |sigma_b,l|)

    It compares how the experts' changes spread over directions, not the directions themselves.
    Matrices are all floating-point tensors of two or more dimensions, embeddings too, viewed as
    (first dimension) x (all others): a convolution as ``out x in*kh*kw``. Tensors of one or no
    dimension are left out. So is a matrix that neither expert changed; one that only one of them
    changed counts as 0, and one of a single row or column as 1, having a single singular value.
    One matrix is held at a time; the cost is a full decomposition per expert and matrix.

    Args:
        vectors: The base and its experts.
        a: Name of one expert.
        b: Name of the other one.

    Returns:
        A number from 0 to 1, or NaN where neither expert changed any matrix.

    Raises:
        ValueError: There is no such expert.
        CheckpointError: A task vector is not finite.
    """
    _check_names(vectors, a, b)
    found = []
    for name in vectors.names:
        shape = vectors.shapes[name]
        if vectors.floating(name) and len(shape) >= 2:
            first, second = (_singular_values(vectors, k, name) for k in (a, b))
            found.append(_cosine(_products(first, second)))
    defined = [value for value in found if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def task_vector_cosine(vectors: TaskVectors, a: str, b: str) -> float:
    """Return the cosine of two experts' task vectors, over all floating-point tensors.

    ::

        cos = sum_l <tau_a,l, tau_b,l> / sqrt(sum_l |tau_a,l|^2  sum_l |tau_b,l|^2)

    Float buffers of the checkpoint (running statistics, say) take part like any tensor. One tensor
    is held at a time.

    Args:
        vectors: The base and its experts.
        a: Name of one expert.
        b: Name of the other one.

    Returns:
        A number from -1 to 1; 0 where only one of the experts differs from the base, NaN where
        neither does.

    Raises:
        ValueError: There is no such expert.
        CheckpointError: A task vector is not finite.
    """
    _check_names(vectors, a, b)
    tensors = [name for name in vectors.names if vectors.floating(name)]
    products = torch.stack([_tensor_products(vectors, a, b, name) for name in tensors])
    return _cosine(products.sum(dim=0))


def _check_names(vectors: TaskVectors, *names: str) -> None:
    for name in names:
        if name not in vectors.experts:
            raise ValueError(
                f"there is no expert {name!r}{nearest(name, vectors.experts)} "
                f"Experts: {', '.join(vectors.experts)}"
            )


def _singular_values(vectors: TaskVectors, expert: str, name: str) -> torch.Tensor:
    rows, columns = as_matrix(vectors.shapes[name])
    factors = vectors.factors(expert, name)
    if factors is None:
        return torch.linalg.svdvals(vectors.delta(expert, name).reshape(rows, columns))
    s = product_svd(*factors)[1]  # an adapter's, without the large matrix
    return torch.nn.functional.pad(s, (0, min(rows, columns) - len(s)))


def _tensor_products(vectors: TaskVectors, a: str, b: str, name: str) -> torch.Tensor:
    first, second = (vectors.delta(expert, name).reshape(-1) for expert in (a, b))
    pieces = zip(first.split(_AT_ONCE), second.split(_AT_ONCE), strict=True)
    return torch.stack([_products(*piece) for piece in pieces]).sum(dim=0)


def _products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``<a, b>``, ``<a, a>``, ``<b, b>``; float64, where small squares survive."""
    a, b = a.double(), b.double()
    return torch.stack([a @ b, a @ a, b @ b])


def _cosine(products: torch.Tensor) -> float:
    """Return the cosine from products: NaN of two zeros, 0 of one."""
    product, first, second = products.tolist()
    if not first and not second:
        return math.nan
    if not first or not second:
        return 0.0
    return max(-1.0, min(1.0, product / (math.sqrt(first) * math.sqrt(second))))
