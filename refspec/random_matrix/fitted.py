r"""Logistic regression that is fitted: its parameters in the limit, and its spectrum.

On the canonical inputs of `refspec.synthetic.canonical`, labels replaced or not, the
minimum of the penalised loss is by symmetry :math:`m (I - 11'/C)` on the class axes and
noise of variance :math:`\tau^2` in all. A sample sees its logits through a proximal map
of those of the fit without it, which are Gaussian given its class: three numbers solve
three equations, and what is known of the sample's inputs is the regression on the
logits without it (Theory: theory/regressions.md#Z2). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize

from refspec import checks, classes
from refspec.populations import Population, expect_count
from refspec.random_matrix.prediction import Prediction
from refspec.random_matrix.regressions import (
    gaussian_design,
    gaussian_points,
    predicted,
    uniform_points,
)
from refspec.results import Result, View

_COARSE, _FINE = 256, 4096  # points of a class in the equations, on the way and last
_DECAY = 1.0  # where the fit is nearly 0, and the way to smaller decays begins
_STEP = 2.0**-4  # from one decay to the next
_TINY = 2.0**-8  # m and tau^2 to begin with
_NEWTON = 200
_CLOSE = 2.0**-30  # of a proximal map, of logits


@dataclass(frozen=True, slots=True, eq=False)
class Fit(Result):
    """A logistic regression in the limit, and its Fisher information.

    Parameters
    ----------
    alignment : float
        m: W is m (I - 11'/C) on the class axes.
    spread : float
        tau^2: the logits of a new sample have that variance from the noise of W, along
        each direction but the constant.
    response : float
        gamma: logits of a sample are those without it less gamma times its error.
    prediction : Prediction
        Of the spectrum of the Fisher information, all C D eigenvalues.
    """

    alignment: float
    spread: float
    response: float
    prediction: Prediction

    def __repr__(self) -> str:
        return (
            f"Fit(alignment={self.alignment:.4g}, spread={self.spread:.4g}, "
            f"response={self.response:.4g}; {self.prediction!r})"
        )

    def view(self) -> View:
        """Show the prediction, and the three numbers."""
        shown = self.prediction.view()
        numbers = {
            "alignment": self.alignment,
            "spread": self.spread,
            "response": self.response,
        }
        return replace(shown, facts={**shown.facts, **numbers})


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Points that stand for samples: classes, labels (n,), normal numbers (n, 2 C)."""

    classes: np.ndarray
    labels: np.ndarray
    normal: np.ndarray


def predict_fit(
    C: int,
    D: int,
    per_class: int,
    *,
    signal: float,
    decay: float,
    label_noise: float = 0.0,
    resolution: float = 0.25,
    seed: int = 0,
) -> Fit:
    r"""Predict a fitted logistic regression and the spectrum of its Fisher information.

    Parameters
    ----------
    C, D, per_class : int
        Classes, dimension of the inputs (D >= 2 C), samples of each class.
    signal : float
        s = t^2, squared length of the class means t e_c; unit noise.
    decay : float
        eta > 0 of the penalty, as of `refspec.synthetic.fit_logistic`.
    label_noise : float
        Share q < 1 of the labels that are replaced by one of the others.
    resolution : float
        Error of the distribution function that is accepted, in eigenvalues.
    seed : int
        Of the points that stand for samples.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    Theory: theory/regressions.md#Z2. D and N grow together, C and the decay do not.
    The equations are those of Loureiro et al. (2021), here by symmetry of three
    numbers. Seconds.

    Examples
    --------
    >>> made = predict_fit(3, 12, 100, signal=9.0, decay=0.01)
    >>> made.prediction.dimension, made.alignment > 0
    (36, True)
    """
    C, D = expect_count("C", C, 2), expect_count("D", D)
    n = expect_count("per_class", per_class)
    if D < 2 * C:
        raise ValueError(
            f"D must be at least 2 C (axes of the classes and as many of noise), got "
            f"C = {C}, D = {D}; raise D"
        )
    signal = checks.expect_positive("signal", signal, zero=True)
    decay = checks.expect_positive("decay", decay)
    label_noise = checks.expect_number("label_noise", label_noise)
    if not 0 <= label_noise < 1:
        raise ValueError(
            f"label_noise must lie in [0, 1), got {label_noise}; it is a share of the "
            "labels"
        )
    accuracy = checks.expect_probability("resolution", resolution, ends=False)
    seed = checks.expect_size("seed", seed)
    t, ratio = float(np.sqrt(signal)), D / (C * n)
    state = np.asarray([_TINY, _TINY, ratio / max(decay, _DECAY)])
    for points, start in ((_COARSE, max(decay, _DECAY)), (_FINE, decay)):
        samples = _samples(C, points, label_noise, seed)
        state = _solved(samples, C, t, (start, decay), ratio, state)
    m, spread, response = (float(x) for x in state)
    # the samples themselves: as many as there are, their logits without them
    drawn = _samples(C, n, label_noise, seed + 1)
    without = _without(drawn, C, t, m, spread)
    logits = proximal(without, drawn.labels, response)
    p = np.exp(classes.log_softmax(logits))
    errors = np.sqrt(p)[:, :, None] * classes.misses(p[:, None, :], np.eye(C), np)
    weights, means = np.full((C * n, 1), 1 / (C * n)), t * np.eye(C, D)
    inputs = Population((n,) * C, D, weights, 1.0, class_means=means)
    centre = np.eye(C) - 1 / C
    W = np.zeros((C, D))
    W[:, :C], W[:, C : 2 * C] = m * centre, np.sqrt(spread) * centre
    made = predicted(gaussian_design(inputs, W, without, errors), inputs, accuracy)
    assumes = (
        f"the loss is at its minimum, eta = {decay:g}; D = {D} and N = {C * n} grow "
        f"together, C = {C} does not; noise on the class axes is that on the others",
        f"W is {m:.3g} (I - 11'/C) on the class axes and noise, of variance "
        f"{spread:.3g} in a logit; a sample moves its own by {response:.3g} times its "
        "error",
        f"{label_noise:.3g} of the labels are replaced by one of the others",
    )
    return Fit(m, spread, response, replace(made, assumes=assumes))


def proximal(without: np.ndarray, labels: np.ndarray, response: float) -> np.ndarray:
    """Return h (n, C) with h + gamma (softmax(h) - e_y) = the logits without a sample.

    Theory: theory/regressions.md#Z2
    """
    eye = np.eye(without.shape[1])
    target, h = without + response * eye[labels], without
    for _ in range(_NEWTON):
        p = np.exp(classes.log_softmax(h))
        off = h + response * p - target
        if np.max(np.abs(off)) <= _CLOSE * (1 + np.max(np.abs(target))):
            break
        step = np.linalg.solve(eye + response * _unsure(p), off[:, :, None])[:, :, 0]
        # the map is the gradient of a convex function, flat where a class is certain
        longest = np.max(np.abs(step), axis=1, keepdims=True)
        h = h - step * np.minimum(1, 2 / np.maximum(longest, 2))
    return h


def _solved(
    samples: _Samples,
    C: int,
    t: float,
    decays: tuple[float, float],
    ratio: float,
    state: np.ndarray,
) -> np.ndarray:
    """Solve for (m, tau^2, gamma) from one decay down to another, from a guess."""
    at, last = decays
    while True:

        def excess(logs: np.ndarray, at: float = at) -> np.ndarray:
            x = np.exp(logs)
            return np.asarray(np.log(_mapped(samples, C, t, at, ratio, x)) - logs)

        found = scipy.optimize.root(excess, np.log(state))
        if not found.success:
            raise RuntimeError(
                f"expected the fit of decay {at:.3g} next to that of a larger one, got "
                f"{found.message}; report C, D, signal and noise as a bug"
            )
        state = np.exp(found.x)
        if at <= last:
            return np.asarray(state)
        at = max(last, at * _STEP)


def _mapped(
    samples: _Samples, C: int, t: float, decay: float, ratio: float, state: np.ndarray
) -> np.ndarray:
    """Return (m, tau^2, gamma) that the logits of a state make.

    Theory: theory/regressions.md#Z2
    """
    m, spread, response = state
    without = _without(samples, C, t, m, spread)
    p = np.exp(classes.log_softmax(proximal(without, samples.labels, response)))
    errors = classes.misses(p, np.eye(C)[samples.labels], np)
    A = _unsure(p)
    bent = np.linalg.solve(np.eye(C) + response * A, A)
    stiff = decay + float(np.mean(np.trace(bent, axis1=1, axis2=2))) / (C - 1)
    own = errors[np.arange(len(errors)), samples.classes]
    pull = -float(np.mean(own)) / (C - 1)
    square = float(np.mean(np.sum(errors**2, axis=1))) / (C - 1)
    made = [t * pull / stiff, ratio * square / stiff**2, ratio / stiff]
    return np.maximum(made, np.finfo(np.float64).tiny)


def _without(
    samples: _Samples, C: int, t: float, m: float, spread: float
) -> np.ndarray:
    """Return the logits W x of samples that the fit has not seen, centred."""
    own, other = samples.normal[:, :C], samples.normal[:, C:]
    x = m * (t * np.eye(C)[samples.classes] + own) + np.sqrt(spread) * other
    return np.asarray(x - np.mean(x, axis=1, keepdims=True))


def _samples(C: int, n: int, label_noise: float, seed: int) -> _Samples:
    """Stand for n samples of each class, as evenly as a Sobol sequence does."""
    label = np.repeat(np.arange(C), n)
    u = np.concatenate([uniform_points(n, 1, [seed, c, 1])[:, 0] for c in range(C)])
    normal = np.concatenate([gaussian_points(n, 2 * C, [seed, c]) for c in range(C)])
    # the first q of [0, 1) is shared out among the other classes
    shares = u * (C - 1) / label_noise if label_noise else np.full(len(u), np.inf)
    replaced = shares < C - 1
    by = 1 + np.where(replaced, shares, 0).astype(np.int64)
    return _Samples(label, np.where(replaced, (label + by) % C, label), normal)


def _unsure(p: np.ndarray) -> np.ndarray:
    """Return diag p - p p', (n, C, C)."""
    return np.asarray(p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :]))
