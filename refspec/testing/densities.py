r"""Assert that a stochastic Lanczos quadrature estimates the right spectral density.

A probe z gives k nodes and weights, the Gauss rule of the measure
:math:`\mu_z = \sum_i (u_i'z)^2/|z|^2 \delta_{\lambda_i}`, whose mean is the spectral
measure :math:`\mu`. Two things separate it from :math:`\mu`: the rule has k nodes, and
there are n probes. Both are bounded without asymptotics, see `comparisons` and
`probing`; what is wrong is named by the table of `density_mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refspec import checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.spectra import Spectrum
from refspec.testing import density_mistakes, inputs, messages
from refspec.testing.accuracy import accuracy, format_roundoff
from refspec.testing.comparisons import Check, Rules, Smoothed, Truth
from refspec.testing.mistakes import scales, structures
from refspec.testing.probing import advice
from refspec.testing.questions import Operator, Question, ask, operator

_MOMENTS = 4  # of each probe, where it is known
_PROBES = 2**20  # of a density on a grid, at most


def assert_density(
    nodes: Array,
    weights: Array,
    expected: Snapshot | SecondMoment | Spectrum,
    *,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    setting: str = "expand",
    dtype: str | None = None,
    draws: str = "gaussian",
    width: float | None = None,
    steps: int | None = None,
    probes: int = 1,
    vectors: Array | None = None,
    order: str | np.ndarray = "row_major",
) -> dict[str, tuple[float, float]]:
    r"""Assert that quadrature nodes, or a density on a grid, are of the right spectrum.

    Parameters
    ----------
    nodes, weights : Array, shape (k,) or (n, k)
        Nodes and weights of each probe's Gauss rule (Lanczos: eigenvalues and squared
        first components). Weights of shape (k, k) or (n, k, k) are eigenvectors of the
        tridiagonal matrices, as columns, and taken for their squared first components.
        With a `width`: a grid (g,), ascending, and the density on it.
    expected : Snapshot, SecondMoment or Spectrum
        What it is the density of.
    of, layer, setting, dtype, order
        As in `refspec.testing.assert_operator`: the first three of a Snapshot, `order`
        that of the parameters in `vectors`.
    draws : {"gaussian", "rademacher"}
        How the probes were drawn; Gaussian ones may be normalised.
    width : float, optional
        Standard deviation of the Gaussian that smooths the density on a grid.
    steps, probes : int
        k and n behind a density on a grid.
    vectors : Array, shape (P, n), optional
        The probes that gave the nodes: moments are then compared probe by probe, with
        no statistics in them. Needs a Snapshot or a SecondMoment.

    Returns
    -------
    dict of str to (float, float)
        Distance and bound of each comparison: mass, moments, the ends that nodes must
        reach and may not pass, distribution function.

    Raises
    ------
    AssertionError
        If one is larger than its bound; the message names the mistake.
    ValueError, TypeError
        If an argument is not as above. Or if twice the spectrum would pass as well, or
        the width hides the outliers: that is no failure, and the message says how many
        probes and steps, or which width, would tell.

    Notes
    -----
    Every comparison fails a right answer with probability at most
    `rounding.FAILURE`. With B = f(A), :math:`x = \log(2/p)` and n probes,
    :math:`|mean\ z'Bz/z'z - tr B/P| \le (2 |B_0|_F \sqrt{x/n} + 2 |B_0| x/n)/P`, where
    B_0 is B less its mean (Laurent and Massart 2000; normalising helps by Jensen). For
    Rademacher probes Cortinovis and Kressner (2022), Theorem 1. How far the largest
    node is from the largest eigenvalue is bounded for Gaussian probes by Saad (1980),
    the part that z has in the top j eigenvectors by its Beta distribution. A right
    Lanczos without reorthogonalisation passes: copies of an eigenvalue share its
    weight. On a grid the rule's own error is bounded by its Christoffel function.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> exact = refspec.spectrum(refspec.curvature.features(s, "fc1"))
    >>> nodes = np.pad(exact.values, (0, exact.n_zero))
    >>> z = np.random.default_rng(0).standard_normal((400, 65))  # in eigenvectors
    >>> weights = z**2 / np.sum(z**2, axis=1, keepdims=True)
    >>> found = assert_density(np.tile(nodes, (400, 1)), weights, exact)
    >>> found["mass"][0] <= found["mass"][1]
    True
    """
    x, y = inputs.host_real("nodes", nodes), inputs.host_real("weights", weights)
    u = max(inputs.roundoff(nodes), 0.0 if dtype is None else format_roundoff(dtype))
    inputs.expect_expected(expected)
    if width is None and y.ndim == x.ndim + 1 and y.shape[-2:] == x.shape[-1:] * 2:
        y = y[..., 0, :] ** 2
    _expect(x, y, draws, width, steps, probes)
    question, true = None, None
    if isinstance(expected, Spectrum):
        known = inputs.host_real("expected.values", expected.values)
        values, radius = np.pad(known, (0, expected.n_zero)), expected.radius
    else:
        question = ask(expected, of, layer, setting)
        true = operator(question)
        values, radius = true.eigenvalues(), accuracy(question, u).radius
    n = probes
    found: Rules | Smoothed
    if width is None:
        ascending = np.argsort(np.atleast_2d(x), axis=1)
        x, y = (np.take_along_axis(np.atleast_2d(z), ascending, axis=1) for z in (x, y))
        found, n = Rules(x, y, u, draws), len(x)
    else:
        found = Smoothed(x, y, width, steps or len(values), probes, u, draws)
    Z = None
    if vectors is not None:
        Z = inputs.host_real("vectors", vectors)
        _expect_probes(question, Z, n)
        assert question is not None  # or the probes were refused
        Z = Z[inputs.order_places(question, order)]
    truth = Truth(np.sort(values), radius, _moments(true, Z))
    compared = found.compare(truth)
    if not all(x.holds for x in compared):
        raise AssertionError(_failure(question, compared, found, truth, Z))
    _expect_conclusive(found, truth)
    return {x.name: (x.distance, x.bound) for x in compared}


def _moments(true: Operator | None, Z: np.ndarray | None) -> np.ndarray | None:
    """Return z'A^q z / z'z of every probe, shape (q, n)."""
    if true is None or Z is None:
        return None
    powers = [Z, true.apply(Z)]
    powers.append(true.apply(powers[1]))
    pairs = [(q // 2, q - q // 2) for q in range(1, _MOMENTS + 1)]
    size = np.sum(Z * Z, axis=0)
    return np.stack([np.sum(powers[i] * powers[j], axis=0) / size for i, j in pairs])


def _expect_conclusive(found: Rules | Smoothed, truth: Truth) -> None:
    """Refuse to pass where twice the spectrum would, or one without its outliers."""
    values, twice = truth.values, truth.times(2.0)
    seen = found.found_end(truth) and not found.found_end(twice)
    if np.any(values) and not seen and all(x.holds for x in found.compare(twice)):
        n, k = found.size
        raise ValueError(
            f"cannot tell: from {n} probe{'s' * (n > 1)} of {k} steps twice the "
            f"spectrum would pass as well, P = {len(values)}; {_advice(found, truth)}"
        )
    if isinstance(found, Smoothed):
        hidden = density_mistakes.hidden_outliers(found.width, values)
        if hidden is not None:
            raise ValueError(
                f"cannot tell: a kernel of width {found.width:.4g} hides the outliers, "
                f"the widest gap of the spectrum is {hidden[0]:.4g}; smooth with a "
                f"width of at most {hidden[1]:.4g} [kernel width]"
            )


def _advice(found: Rules | Smoothed, truth: Truth) -> str:
    """Say how many probes, or steps of each, would tell twice the spectrum."""
    if isinstance(found, Rules):
        return advice(truth.values, truth.radius, found.draws, found.distinct)
    twice = truth.times(2.0)

    def told(n: int) -> bool:
        return not all(x.holds for x in replace(found, n=n).compare(twice))

    n, ways = 2 * found.n, []
    if told(_PROBES):
        while not told(n):
            n *= 2
        ways.append(f"n = {n} probes would")
    if float(np.max(np.diff(found.grid))) > found.width / 2:
        ways.append(f"a grid with steps of at most {found.width / 4:.4g} may")
    ways.append("one would as nodes and weights with its vector (`vectors=`)")
    return "; ".join(ways)


def _failure(
    question: Question | None,
    compared: list[Check],
    found: Rules | Smoothed,
    truth: Truth,
    Z: np.ndarray | None,
) -> str:
    """Say which comparison is off, and what explains it."""
    first = "the density is not that of the spectrum"
    if question is not None:
        first = messages.heading(question, "the density differs from refspec's")
    lines = [(x.name, messages.radii(x.distance, x.bound)) for x in compared]
    why = [f"{x.sentence} [{x.name}]" for x in _undone(found, truth)]
    doubtful: list[str] = []
    if not why:
        for name, sentence, other in _others(question, found, truth, Z):
            at_end = found.found_end(other)
            if at_end is not False and all(x.holds for x in found.compare(other)):
                told = at_end or _tells(found, other)
                (why if told else doubtful).append(f"{sentence} [{name}]")
    if not why and isinstance(found, Smoothed):
        fewer = density_mistakes.of_fewer(found, truth)
        why = [
            f"{x.sentence} [{x.name}]"
            for x in fewer
            if x.rest is not None and _tells(x.rest, truth)
        ]
    if not why:
        why = ["none of the usual convention mistakes fits"]
        if doubtful:
            how = _advice(found, truth)
            why = ["none of the usual convention mistakes fits for certain; " + how]
            # no brackets: a name is for what is sure
            lines += [("possible", x.rpartition(" [")[0]) for x in doubtful]
    return messages.message(first, [*lines, *(("diagnosis", x) for x in why)])


def _undone(found: Rules | Smoothed, truth: Truth) -> list[density_mistakes.Undone]:
    if isinstance(found, Rules):
        return density_mistakes.of_rules(found, truth)
    return density_mistakes.of_smoothed(found, truth)


def _tells(found: Rules | Smoothed, truth: Truth) -> bool:
    """Whether a spectrum that fits would not if it were an eighth larger or smaller."""
    if isinstance(found, Smoothed) and found.width <= truth.top / 8:
        at_end = found.found_end(truth)
        if at_end is not None:
            return at_end
    every = (found.compare(truth.times(s)) for s in (7 / 8, 9 / 8))
    return not any(all(x.holds for x in compared) for compared in every)


def _others(
    question: Question | None,
    found: Rules | Smoothed,
    truth: Truth,
    Z: np.ndarray | None,
) -> Iterator[tuple[str, str, Truth]]:
    """Yield the spectra of other questions: a shift and usual factors first."""
    if isinstance(found, Rules):
        shift = float(np.max(found.nodes)) - float(truth.values[-1])
        text = f"{shift:.6g} times the identity is inside the matrix: take it off"
        yield "shift", text, truth.plus(shift)
    if question is None:
        return
    for name, (s, text) in scales(question).items():
        yield name, text, truth.times(s)
    for mistake in structures(question, "row_major"):
        if mistake.same_spectrum:
            continue
        true = mistake.build()
        values = np.sort(true.eigenvalues())
        if len(values) == len(truth.values):
            other = Truth(values, truth.radius, _moments(true, Z))
            yield mistake.name, mistake.sentence, other


def _expect_probes(question: Question | None, Z: np.ndarray, n: int) -> None:
    """Refuse probes that do not go with the nodes."""
    P = 0 if question is None else question.parameters
    if question is None or Z.shape != (P, n):
        raise ValueError(
            f"vectors must be the n = {n} probes (P, n) of a Snapshot or a "
            f"SecondMoment, P = {P}, got shape {Z.shape}; give one column a row of "
            "nodes"
        )
    checks.expect_finite("vectors", Z)


def _expect(
    x: np.ndarray,
    y: np.ndarray,
    draws: str,
    width: float | None,
    steps: int | None,
    probes: int,
) -> None:
    """Check shapes and names."""
    checks.expect_choice("draws", draws, ("gaussian", "rademacher"))
    checks.expect_size("probes", probes, least=1)
    if x.shape != y.shape or x.ndim not in (1, 2) or not x.size:
        raise ValueError(
            "nodes and weights must have one shape, (k,) or (n, k), got "
            f"{x.shape} and {y.shape}; one row a probe"
        )
    checks.expect_finite("nodes", x)
    checks.expect_finite("weights", y)
    named = width is None and (_are_components(y) or np.array_equal(x, y))
    if np.min(y) < 0 and not named:
        raise ValueError(
            f"weights must be >= 0, got a smallest one of {np.min(y):.3g}; look for "
            "weights that are not squared"
        )
    if width is None:
        return
    checks.expect_positive("width", width)
    if steps is None or x.ndim != 1 or not np.all(np.diff(x) > 0):
        raise ValueError(
            "a density needs an ascending grid (g,), width > 0 and the steps k behind "
            f"it, got shape {x.shape}, width {width}, steps {steps}; give all three"
        )
    checks.expect_size("steps", steps, least=1)


def _are_components(y: np.ndarray) -> bool:
    """Whether signed weights are components of unit vectors: a mistake with a name."""
    away = np.abs(np.sum(np.atleast_2d(y) ** 2, axis=1) - 1)
    half = rounding.unit_roundoff(np.zeros(0, np.float16))
    return bool(np.max(away) <= rounding.gamma(2 * y.shape[-1] + 8, half))
