r"""A second-order step: a layer's gradient through a damped inverse of its curvature.

One running average of class factors serves all three methods, so that they differ in
the operator alone: KFAC is the product of the factors' means, EKFAC that product's
eigenvectors with running variances, CFAC the sum of the classes' products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.backend import Array
from refspec.classes import Layer
from refspec.kronecker import moments
from refspec.kronecker.eigenbasis import (
    KroneckerBasis,
    damped_inverse,
    eigenbasis,
    factored_tikhonov,
)
from refspec.kronecker.kfac import ClassFactors, class_factors
from refspec.kronecker.preconditioner import running_average, solve

__all__ = ["METHODS", "Curvature", "inverse", "observe"]

#: The operators that a step can be preconditioned with.
METHODS = ("kfac", "ekfac", "cfac")


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """What a method knows of a layer: running averages over batches.

    Parameters
    ----------
    factors : ClassFactors
        Of every class seen so far.
    ekfac : KroneckerBasis or None
        The running EKFAC, kept for that method only.
    """

    factors: ClassFactors
    ekfac: KroneckerBasis | None = None


def observe(
    layer: Layer,
    labels: np.ndarray,
    probabilities: Array,
    *,
    method: str,
    old: Curvature | None = None,
    decay: float = 0.95,
) -> Curvature:
    r"""Take a batch into the running averages of a layer.

    Parameters
    ----------
    layer : Layer
        Features and errors of the batch, sorted by class; `models.all_errors`.
    labels : array of int, shape (N,)
        Non-decreasing; classes may be absent.
    probabilities : Array, shape (N, C)
        Softmax outputs.
    method : {"kfac", "ekfac", "cfac"}
        What the averages are for.
    old : Curvature, optional
        So far; none at the first batch.
    decay : float
        Share of the old, in [0, 1).

    Returns
    -------
    Curvature
        With EKFAC's variances carried over to the new eigenvectors: along Q (x) R the
        old operator has :math:`(Q'Q_{old})^{\circ 2} S (R_{old}'R)^{\circ 2}`.

    Raises
    ------
    ValueError
        If the method is unknown, or as in `class_factors` and `running_average`.

    Notes
    -----
    Theory: theory/kronecker.md#K9, #K11.

    Examples
    --------
    >>> layer = Layer("fc", np.ones((2, 1, 1)), np.ones((2, 2, 1, 1)))
    >>> p = np.full((2, 2), 0.5)
    >>> seen = observe(layer, np.asarray([0, 0]), p, method="kfac")
    >>> seen.factors.frequencies.tolist()
    [1.0, 0.0]
    """
    _expect_method(method)
    xp, N = backend.namespace(probabilities), probabilities.shape[0]
    s = xp.full_like(probabilities[:, 0], 1 / N)
    factors = class_factors(layer, labels, probabilities, s)
    if old is not None:
        factors = running_average(old.factors, factors, decay)
    if method != "ekfac":
        return Curvature(factors)
    basis = eigenbasis(factors.kfac())
    Q, R = basis.left, basis.right
    values = moments.variances(
        layer.errors @ Q, layer.features @ R, s[:, None] * probabilities
    )
    if old is not None and old.ekfac is not None:
        left = (xp.matrix_transpose(Q) @ old.ekfac.left) ** 2
        right = (xp.matrix_transpose(old.ekfac.right) @ R) ** 2
        values = decay * (left @ old.ekfac.values @ right) + (1 - decay) * values
    return Curvature(factors, KroneckerBasis(Q, R, values))


def inverse(
    curvature: Curvature, method: str, damping: float, *, iterations: int = 10
) -> Callable[[Array], Array]:
    """Return the map from a gradient (b, a) to a preconditioned one.

    Parameters
    ----------
    curvature : Curvature
        From `observe` with the same method.
    method : {"kfac", "ekfac", "cfac"}
        KFAC with the damping split over its factors, EKFAC in its basis, CFAC by at
        most `iterations` steps of conjugate gradients that KFAC preconditions.
    damping : float
        lambda > 0.
    iterations : int
        Of CFAC.

    Returns
    -------
    callable
        Decompositions are made here, once; apply it to many gradients.

    Raises
    ------
    ValueError
        If the method is unknown, or was not observed.

    Notes
    -----
    Theory: theory/kronecker.md#K10, #K12.

    Examples
    --------
    >>> factors = ClassFactors(np.ones(1), 2 * np.eye(2)[None], 3 * np.eye(2)[None])
    >>> inverse(Curvature(factors), "cfac", 2.0)(np.eye(2)).tolist()
    [[0.125, 0.0], [0.0, 0.125]]
    """
    _expect_method(method)
    if method == "ekfac":
        if curvature.ekfac is None:
            raise ValueError(
                "EKFAC must have been observed with method 'ekfac', got factors only; "
                "pass method='ekfac' to observe"
            )
        basis = damped_inverse(curvature.ekfac, damping)
        return lambda V: _applied(basis, V)
    split = factored_tikhonov(curvature.factors.kfac(), damping)
    if method == "kfac":
        return lambda V: _applied(split, V)
    operator = curvature.factors.cfac()
    return lambda V: solve(operator, V, damping, split, iterations=iterations).value


def _applied(operator: KroneckerBasis, V: Array) -> Array:
    xp = backend.namespace(V)
    return xp.reshape(operator.matvec(xp.reshape(V, (-1,))), V.shape)


def _expect_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(
            f"method must be one of {METHODS}, got {method!r}; choose one of these"
        )
