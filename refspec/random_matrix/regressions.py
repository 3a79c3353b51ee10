r"""Hessians of regressions: Gaussian inputs given a few linear outputs.

The Hessian of a generalised linear model is :math:`\sum_i w_i g_i x_i x_i'`, the
curvature g of the loss a function of a few outputs z = W x: those of the parameters,
and of what made the responses. Given z a Gaussian x is its regression on z and noise
that is independent of g, a layer with one error a sample
(Theory: theory/regressions.md#Z1). Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.stats

from refspec import checks
from refspec.populations import (
    Population,
    as_matrix,
    expect_predictable,
    square_root,
)
from refspec.random_matrix.conditional import counting, spectrum
from refspec.random_matrix.conditional.design import (
    ConditionalDesign,
    Regression,
    conditional,
    conditional_design,
)
from refspec.random_matrix.conditional.resolvent import Equivalent
from refspec.random_matrix.outliers import Outliers, no_outliers, row_space
from refspec.random_matrix.prediction import Prediction, assembled


def predict_glm(
    inputs: Population,
    directions: np.ndarray,
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    resolution: float = 0.25,
    seed: int = 0,
) -> Prediction:
    r"""Predict the spectrum of the Hessian of a generalised linear model.

    Parameters
    ----------
    inputs : Population
        Of the inputs x, K = 1: Gaussian, class means fixed or absent. Its weights are
        those of the samples.
    directions : array, shape (m, d), m < d
        W: the curvature depends on x through W x. The parameters at which the Hessian
        is taken, and those that the responses come from, if it depends on responses.
    curvature : callable
        Takes outputs (N, m) and classes (N,) to the second derivatives (N,) of the
        loss, at least 0.
    resolution : float
        Error of the distribution function that is accepted, in eigenvalues.
    seed : int
        Of the points that stand for the outputs.

    Returns
    -------
    Prediction
        Its outliers are the eigenvalues above the band of the largest mass; overlaps
        are with the class means.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, inputs are not Gaussian or a mean is random.

    Notes
    -----
    Theory: theory/regressions.md#Z1; Liao and Mahoney (2021). Two classes and their
    softmax have twice these eigenvalues, W the difference of both weights. Deviations
    of outliers are those of inputs and outputs. Cost: some 100 solutions of size d.

    Examples
    --------
    >>> inputs = Population((400,), 40, np.full((400, 1), 1 / 400), 1.0)
    >>> w = np.eye(1, 40)
    >>> made = predict_glm(inputs, w, lambda z, _: np.exp(z[:, 0]))  # Poisson
    >>> made.dimension, len(made.outliers.values)
    (40, 1)
    """
    checks.expect_type("inputs", inputs, Population, "make one of the inputs")
    expect_predictable(inputs)
    d = inputs.dimension
    W = checks.host_array("directions", directions, "(m, d)", sizes={"d": d})
    if inputs.K != 1 or inputs.noise != "gaussian" or inputs.class_kind == "random":
        raise ValueError(
            "inputs must be Gaussian vectors of K = 1 whose class means are fixed, got "
            f"{inputs}; draw the means once and give them as class_means"
        )
    if not len(W) < d:
        raise ValueError(
            f"directions must be fewer than d = {d}, got {len(W)}; given as many "
            "outputs as inputs nothing is left to chance"
        )
    if not callable(curvature):
        raise TypeError(
            "curvature must take outputs (N, m) and classes (N,), got one of type "
            f"{type(curvature).__name__}; give a function"
        )
    accuracy = checks.expect_probability("resolution", resolution, ends=False)
    seed = checks.expect_size("seed", seed)
    z = outputs_of(inputs, W, seed)
    g = checks.host_array(
        "curvature(z, c)",
        curvature(z.copy(), inputs.labels.copy()),
        "(N,)",
        sizes={"N": inputs.N},
        nonnegative=True,
    )
    design = gaussian_design(inputs, W, z, np.sqrt(g)[:, None, None])
    made = predicted(design, inputs, accuracy)
    share = float(np.max(g) / np.mean(g)) if np.any(g) else 0.0
    assumes = (
        f"inputs are Gaussian given their class; d = {d} and N = {inputs.N} grow "
        f"together, the m = {len(W)} directions do not",
        f"the curvature depends on W x alone, its largest is {share:.3g} times its "
        "mean; outputs are points of a quadrature",
    )
    return replace(made, assumes=assumes)


def outputs_of(inputs: Population, W: np.ndarray, seed: int) -> np.ndarray:
    """Return outputs (N, m) of the inputs: points of a Sobol sequence in each class.

    Theory: theory/regressions.md#Z1
    """
    means, parts = inputs.fixed_means()[:, 0], []
    for c, n in enumerate(inputs.sizes):
        S = W @ as_matrix(inputs.within[c], inputs.dimension) @ W.T
        points = gaussian_points(n, len(W), [seed, c])
        parts.append(W @ means[c] + points @ square_root((S + S.T) / 2))
    return np.concatenate(parts)


def gaussian_points(n: int, m: int, seed: list[int]) -> np.ndarray:
    """Return n points of standard normal variables in m dimensions, evenly spread."""
    return np.asarray(scipy.stats.norm.ppf(uniform_points(n, m, seed)))


def uniform_points(n: int, m: int, seed: list[int]) -> np.ndarray:
    """Return n points of (0, 1)^m, the first of a scrambled Sobol sequence."""
    sobol = scipy.stats.qmc.Sobol(m, rng=np.random.default_rng(seed))
    points = sobol.random(1 << int(np.ceil(np.log2(max(n, 2)))))[:n]
    return np.asarray(np.clip(points, 2.0**-53, 1 - 2.0**-53))


def gaussian_design(
    inputs: Population, W: np.ndarray, z: np.ndarray, errors: np.ndarray
) -> ConditionalDesign:
    """Return the design of Gaussian inputs given outputs z = W x, of errors (N, K, b).

    Theory: theory/regressions.md#Z1, theory/conditional.md#Y1
    """
    d, means = inputs.dimension, inputs.fixed_means()[:, 0]
    slopes, residual = [], []
    for mean, within in zip(means, inputs.within, strict=True):
        S = as_matrix(within, d)
        joint = np.block([[S, S @ W.T], [W @ S, W @ S @ W.T]])
        K, rest = conditional((joint + joint.T) / 2, d)
        slopes.append(np.concatenate([mean[:, None], K], axis=1))
        residual.append(rest)
    labels = inputs.labels
    xi = np.concatenate([np.ones((len(z), 1)), z - means[labels] @ W.T], axis=1)
    fitted = Regression(np.stack(slopes), np.stack(residual), np.full(inputs.C, np.inf))
    rows = np.sqrt(inputs.weights)[:, :, None] * errors
    return conditional_design(rows, labels, fitted, xi)


def predicted(
    design: ConditionalDesign, inputs: Population, resolution: float
) -> Prediction:
    """Predict from a design; deviations with what the outputs of a draw add.

    Theory: theory/regressions.md#Z1
    """
    table, found = spectrum.tabulate(design, resolution=resolution)
    spread = np.sqrt(found.deviations**2 + outputs_variance(design, found.values))
    means = inputs.fixed_means()[:, 0]
    rows = row_space(means) if np.any(means) else np.zeros((0, inputs.dimension))
    b = design.dimension // inputs.dimension
    return assembled(
        "conditional",
        table,
        no_outliers(),
        Outliers(found.values, spread, found.overlaps),
        np.kron(np.eye(b), rows),
    )


def outputs_variance(design: ConditionalDesign, values: np.ndarray) -> np.ndarray:
    """Return the variance (r,) that drawing the outputs anew adds to outliers (r,).

    Theory: theory/regressions.md#Z1
    """
    sizes, found, guess = np.bincount(design.labels), [], None
    for x in values.tolist():
        made = counting.at(design, x, guess)
        guess = made.unknowns
        moved = influences(design, made) / counting.density(made)
        spreads = [np.var(moved[design.labels == c]) for c in range(len(sizes))]
        found.append(float(np.sum(sizes * spreads)))
    return np.asarray(found)


def influences(design: ConditionalDesign, made: Equivalent) -> np.ndarray:
    """Return by how much each sample raises the number of eigenvalues above Re z, (N,).

    Theory: theory/regressions.md#Z1
    """
    # Phi is stationary in the unknowns, so that it changes by the sample's own terms
    R, own = design.roots, design.labels
    a, h = R.shape[1], design.slopes.shape[1]
    E = R @ np.linalg.solve(made.inner, np.swapaxes(R, 1, 2) + 0j)
    m = np.sum(design.slopes[own] * design.regressors[:, None, :], axis=2)
    Q = np.swapaxes(np.reshape(made.resolvents[0], (a, h, a, h)), 1, 2)
    forms = np.reshape(m[:, :, None] * m[:, None, :], (len(m), h * h))
    forms = np.reshape(forms @ np.reshape(Q, (a * a, h * h)).T, (len(m), a, a))
    turned = np.sum(np.angle(np.linalg.eigvals(made.inner)), axis=1)
    return np.asarray(turned + np.sum(E * forms, axis=(1, 2)).imag) / np.pi
