r"""Multinomial logistic regression on the canonical classification model.

Inputs :math:`x = t e_c + z`, z standard Gaussian in D >= C dimensions, balanced
classes, :math:`s = t^2`; probabilities :math:`1 - \alpha` on the true class and
:math:`\alpha/(C-1)` elsewhere. The Fisher matrix of the regression then has an exact
expectation, and its outliers over its bulk are a function of the misclassification:
Papyan (2020), section 8. The regression itself, fitted, is
`refspec.synthetic.regression`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.special

from refspec import checks, rounding
from refspec.backend import Namespace
from refspec.populations import (
    WIDEST,
    KroneckerPopulation,
    Population,
    expect_count,
    expect_length,
)
from refspec.rounding import Bounded
from refspec.synthetic import geometry
from refspec.synthetic.groups import canonical_groups, expect_canonical
from refspec.synthetic.worlds import World, planted


def softmax_hessian(probabilities: np.ndarray) -> np.ndarray:
    """Return U = diag(p) - p p', (C, C), the Hessian of the loss in the logits.

    Positive semidefinite, 1 in its kernel. Theory: theory/logistic.md#W11.
    """
    return np.diag(probabilities) - np.outer(probabilities, probabilities)


def mixture_fisher(
    priors: np.ndarray, moments: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Return the expected Fisher (CD, CD) of logistic regression, p constant by class.

    From class frequencies (C,), second moments (C, D, D) of each class's inputs and a
    confusion matrix (C, C). Theory: theory/logistic.md#W11.
    """
    C, D = len(priors), np.shape(moments)[-1]
    checks.host_array("moments", moments, "(C, D, D)", sizes={"C": C})
    geometry.per_sample(probabilities, np.arange(C))
    out = np.zeros((C * D, C * D))
    for prior, moment, p in zip(priors, moments, probabilities, strict=True):
        out += prior * np.kron(softmax_hessian(p), moment)
    return out


def outlier_eigenvectors(C: int, D: int) -> np.ndarray:
    """Return the eigenvectors of the C outliers, (e_c - 1/C) (x) e_c, normalised.

    Class means of errors (x) those of features. Theory: theory/logistic.md#W13.
    """
    C, D, _, _ = expect_canonical(C, D, 0.0, 0.5)
    centred = (np.eye(C) - 1 / C) / math.sqrt(1 - 1 / C)
    inputs = np.eye(C, D)
    return np.stack([np.kron(centred[c], inputs[c]) for c in range(C)], axis=1)


def outlier_ratio(C: int, signal: float, alpha: float) -> float:
    r"""Return outlier / bulk of the canonical model.

    Parameters
    ----------
    C : int
        Classes.
    signal : float, s = t^2
    alpha : float
        Predicted misclassification, in (0, (C-1)/C].

    Returns
    -------
    float
        :math:`1 + s (1 - \alpha) / (2 - \alpha C/(C-1))`.

    Raises
    ------
    ValueError, TypeError
        If C is no integer >= 2, s negative, or alpha outside its interval.

    Notes
    -----
    Theory: theory/logistic.md#W14. Increases with s; decreases with alpha if C >= 3,
    constant if C = 2.

    Examples
    --------
    >>> outlier_ratio(2, 4.0, 0.25), outlier_ratio(4, 4.0, 0.75)
    (3.0, 2.0)
    """
    C, _, signal, alpha = expect_canonical(C, C, signal, alpha)
    return 1 + signal * (1 - alpha) / (2 - alpha * C / (C - 1))


def bump_ratio(C: int, signal: float, alpha: float) -> float:
    """Return bump / bulk of the canonical model, 1 + (s/C) / (2 - alpha C/(C-1)).

    It increases with s = t^2 and with alpha. Theory: theory/logistic.md#W14.
    """
    C, _, signal, alpha = expect_canonical(C, C, signal, alpha)
    return 1 + signal / C / (2 - alpha * C / (C - 1))


def bayes_error(C: int, t: float) -> Bounded:
    """Return the misclassification of the best classifier, 1 - E Phi(t + Z)^(C-1).

    The radius bounds quadrature and rounding. Cost O(C) evaluations. Theory:
    theory/logistic.md#W15.
    """
    C, t = expect_count("C", C, 2, WIDEST), expect_length("t", t)
    # in the strip |Im z| <= 1 the integrand is at most M, M <= exp of this
    log_strip = 0.5 + math.log(2) + (C - 1) * math.log(1.66)
    step = 2 * math.pi / (40 + log_strip)
    limit = 9.0
    z = step * np.arange(-math.ceil(limit / step), math.ceil(limit / step) + 1)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    wrong = -np.expm1((C - 1) * scipy.special.log_ndtr(t + z))
    value = step * float(np.sum(density * wrong))
    quadrature = 2 * math.exp(-40) / (1 - math.exp(-40))
    tail = 2 * float(scipy.special.ndtr(-limit))
    # exp(-z^2/2) errs by z^2 u, log Phi(x) by (x^2 + 2) u from its argument; exp,
    # expm1 and log_ndtr are taken as right to 16 u
    spent = rounding.gamma(len(z) + limit**2 + (t + limit) ** 2 + 64, 2.0**-53)
    return Bounded(value, quadrature + tail + spent * value)


def canonical(
    C: int,
    D: int,
    per_class: int,
    *,
    signal: float,
    alpha: float,
    rng: np.random.Generator,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> World:
    """Draw the canonical classification model of Theorem 8.1.

    Parameters
    ----------
    C, D, per_class : int
        Classes, dimension of the inputs (D >= C), samples of each class.
    signal : float
        s = t^2, squared length of the class means.
    alpha : float
        Predicted misclassification, in (0, (C-1)/C].
    rng, dtype, xp
        As in `refspec.synthetic.planted`.

    Returns
    -------
    World
        One layer, its errors p - e_{c'}; `groups` are the four of the theorem.

    Raises
    ------
    ValueError, TypeError
        If a size, the signal or alpha is out of range.

    Notes
    -----
    Theory: theory/logistic.md#W11, #W12.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> world = canonical(3, 5, 4, signal=4.0, alpha=0.25, rng=rng)
    >>> [(g.name, g.multiplicity) for g in world.groups][:2]
    [('outlier', 3), ('bump', 3)]
    """
    groups = canonical_groups(C, D, signal=signal, alpha=alpha)
    n = expect_count("per_class", per_class)
    checks.expect_generator("rng", rng)
    p, sizes = geometry.confusion(C, alpha), (n,) * C
    errors = Population(
        sizes,
        C,
        np.ones((n * C, C)),
        0.0,
        cross_means=p[:, None, :] - np.eye(C)[None, :, :],
    )
    inputs = Population(
        sizes,
        D,
        np.ones((n * C, 1)),
        1.0,
        class_means=math.sqrt(signal) * np.eye(C, D),
    )
    world = planted(
        {"softmax": KroneckerPopulation(errors, inputs)},
        rng=rng,
        probabilities=p,
        dtype=dtype,
        xp=xp,
        provenance={"model": "canonical", "signal": signal, "alpha": alpha},
    )
    return replace(world, groups=groups)
