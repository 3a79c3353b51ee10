"""Assertions that curvature libraries make against refspec.

An assertion passes if what was found is within the radius of `accuracy` of what refspec
computes. There is no tolerance to choose: say the format of your numbers, not how far
off they may be. `AssertionError` says what differs, where, by how many radii, and which
convention mistake explains it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.factors import lengths
from refspec.spectra import Spectrum
from refspec.testing import diagnosis, inputs, messages, settings, solvers
from refspec.testing.accuracy import Accuracy, accuracy, format_roundoff
from refspec.testing.fits import Fit
from refspec.testing.questions import Question, ask, operator, parameter_groups

#: Side up to which a matrix is compared whole; operators are always probed.
EXACT = 1000
#: Gaussian vectors that an operator is probed with.
PROBES = 20
_FLOAT32 = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What a passed assertion has shown.

    Parameters
    ----------
    distance : float
        Bound on the 2-norm of the difference of two operators, or on that of every
        eigenvalue of two spectra.
    radius : float, what two right answers may differ by
    failure : float
        Probability that the distance is larger all the same; 0 if nothing was drawn.
    statement : str, the same in words
    """

    distance: float
    radius: float
    failure: float
    statement: str


def assert_operator(
    found: Any,
    snapshot: Snapshot | SecondMoment,
    *,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    order: str | np.ndarray = "row_major",
    setting: str = "expand",
    dtype: str | None = None,
    like: Array | None = None,
    seed: int = 0,
) -> Agreement:
    r"""Assert that an operator is the curvature it claims to be.

    Parameters
    ----------
    found : matrix, operator or callable
        An array (P, P) of any array library, a SciPy LinearOperator, anything with
        ``matvec`` or ``@``, or a function of a vector (P,).
    snapshot : Snapshot or SecondMoment
        Made from the same network and samples. Of a moment by differentiation
        (``refspec.torch.moment``) the layers are parameters by name.
    of : str
        ``fisher`` or ``gauss_newton`` (the same for the cross-entropy),
        ``empirical_fisher``, ``hessian`` (needs a model section), ``kfac``, ``ekfac``,
        ``cfac``.
    layer : str or tuple of str, optional
        One layer or several, in the order of the parameters; all if not given.
    order : str or array of int, shape (P,)
        Order of the parameters, see `refspec.testing.inputs.ORDERS`.
    setting : {"expand", "reduce"}
        Treatment of positions by KFAC, EKFAC and CFAC.
    dtype : str, optional
        Format that the numbers were computed in, if coarser than the one they arrive
        in: float32, tf32, float16, bfloat16.
    like : Array, optional
        An array of the library, device and dtype that the operator's vectors must have;
        float64 NumPy, or the operator's own, if not given.
    seed : int, of the probes

    Returns
    -------
    Agreement
        How near the two are, proved.

    Raises
    ------
    AssertionError
        If they differ by more than right answers can.
    ValueError, TypeError
        If an argument is not as above, the operator is not finite or not real or cannot
        be multiplied with, or the format is so coarse that a wrong one would pass.

    Notes
    -----
    Theory: theory/rounding.md#B1, #B4; theory/hessian.md#H7; theory/kronecker.md#K2. A
    matrix with P <= 1000 is compared whole, in the Frobenius norm (the Hessian in the
    2-norm). Otherwise every one of 20 Gaussian vectors z must have :math:`\|Rz\| \le r
    \|z\|`, R the difference and r the radius, and then :math:`\|R\|_2` is at most
    `rounding.probed_norm`, except with probability `rounding.FAILURE`.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> mine = refspec.curvature.fisher(s, ["fc3"]).matrix()
    >>> assert_operator(mine, s, layer="fc3").failure
    0.0
    >>> try:
    ...     assert_operator(400 * mine, s, layer="fc3")
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[-1][2:54])
    diagnosis  factor 1/N missing: the loss is summed ov
    """
    question = ask(snapshot, of, layer, setting)
    places = inputs.order_places(question, order)
    named = 0.0 if dtype is None else format_roundoff(dtype)
    checks.expect_size("seed", seed)
    inputs.expect_like(like)
    _expect_side(found, question, places, like)
    dense = backend.is_array(found)
    u = max(named, _format(found, like))
    P = question.parameters
    exact = dense and P <= EXACT
    Z = np.eye(P) if exact else inputs.probes(P, PROBES, u, seed)
    products, format_ = inputs.products(found, Z, places, like)
    u = max(u, format_)
    allowed, true = accuracy(question, u), operator(question).apply(Z)
    residual = products - true
    norm = _spectral if of == "hessian" else inputs.frobenius
    if exact:
        distance = norm(residual)
    else:
        distance = float(np.max(lengths(residual, 0) / lengths(Z, 0)))
    if not distance <= allowed.radius:
        if exact:
            Z = inputs.probes(P, PROBES, u, seed)
            products, _ = inputs.products(found, Z, places, like)
            true = operator(question).apply(Z)
        again = products[:, :1]
        if not dense:
            again = inputs.products(found, Z[:, :1], places, like)[0]
        raise AssertionError(
            _operator_failure(
                question, order, Z, products, again, true, distance, allowed
            )
        )
    size = norm(true) if exact else inputs.frobenius(true) / inputs.frobenius(Z)
    _expect_conclusive(question, allowed, size)
    if exact:
        return _agreement(distance, allowed, 0.0)
    squares = float(np.sum(residual**2))
    proved = rounding.probed_norm(squares * (1 + 8 * u), PROBES)
    return _agreement(proved, allowed, rounding.FAILURE)


def assert_spectrum(
    found: Array,
    expected: Snapshot | SecondMoment | Spectrum,
    *,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    setting: str = "expand",
    dtype: str | None = None,
    residuals: Array | None = None,
    vectors: Array | None = None,
    order: str | np.ndarray = "row_major",
) -> Agreement:
    """Assert that eigenvalues are those of a curvature matrix.

    Parameters
    ----------
    found : Array, shape (r,)
        The r largest eigenvalues, r at most P, in any order.
    expected : Snapshot, SecondMoment or Spectrum
        What they are eigenvalues of; or their values with a radius.
    of, layer, setting, dtype
        As in `assert_operator`; only `dtype` is used with a Spectrum.
    residuals : Array, shape (r,), optional
        Norms ``||A v - value v||`` that an iterative solver left for unit vectors v:
        eigenvalues may be off by them as well.
    vectors : Array, shape (P, r), optional
        Their eigenvectors, in the order of the values. They do not change what passes
        but make the diagnosis sharper. Needs a Snapshot or a SecondMoment.
    order : str or array of int, shape (P,)
        That of the parameters in `vectors`, as in `assert_operator`.

    Returns
    -------
    Agreement
        The largest difference, and what it may be.

    Raises
    ------
    AssertionError
        If an eigenvalue differs by more than that of a right answer can.
    ValueError, TypeError
        As `assert_operator`.

    Notes
    -----
    Theory: theory/rounding.md#B1, #B3; theory/hessian.md#H7; theory/spectra.md#S1, #S2.
    By Weyl's inequality sorted eigenvalues move by at most the norm of the matrix's
    error; the eigensolver adds P u times the largest value. A residual bounds the
    distance to the nearest eigenvalue.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> top = refspec.spectrum(refspec.curvature.fisher(s, ["fc3"])).values[:5]
    >>> agreement = assert_spectrum(top, s, layer="fc3")
    >>> agreement.distance <= agreement.radius
    True
    """
    values = inputs.host_real("eigenvalues", found)
    checks.expect_array("eigenvalues", values, "(r,)")
    checks.expect_size("the number r of eigenvalues", len(values), least=1)
    descending = np.argsort(-values, kind="stable")
    values = values[descending]
    u = max(inputs.roundoff(found), 0.0 if dtype is None else format_roundoff(dtype))
    inputs.expect_expected(expected)
    norms = np.zeros(len(values))
    if residuals is not None:
        norms = inputs.host_real("residuals", residuals)
        checks.expect_array(
            "residuals", norms, "(r,)", sizes={"r": len(values)}, nonnegative=True
        )
    question, V, coarse = None, None, 0.0
    if isinstance(expected, Spectrum):
        P = expected.dimension
        known = inputs.host_real("expected.values", expected.values)
        true = np.sort(np.pad(known, (0, max(0, P - len(known)))))[::-1]
        allowed = Accuracy(expected.radius, u, 0, 0)
        _expect_no_vectors(vectors)
    else:
        question = ask(expected, of, layer, setting)
        P = question.parameters
        true = operator(question).eigenvalues()
        allowed = accuracy(question, u)
        if u < _FLOAT32:
            coarse = accuracy(question, _FLOAT32).radius
        if vectors is not None:
            V = inputs.host_real("vectors", vectors)
            sizes = {"P": P, "r": len(values)}
            checks.expect_array("vectors", V, "(P, r)", sizes=sizes)
            V = V[inputs.order_places(question, order)][:, descending]
    if len(values) > P:
        raise AssertionError(_too_many(question, len(values), P))
    every, true = true, true[: len(values)]
    top = float(np.max(np.abs(true)))
    radius = allowed.radius + 2 * rounding.eigensolver_radius(P, top, allowed.u)
    radius += float(np.max(norms))
    allowed = replace(allowed, radius=radius)
    distance = float(np.max(np.abs(values - true)))
    if not distance <= radius:
        if u < _FLOAT32:
            coarse += 2 * rounding.eigensolver_radius(P, top, _FLOAT32)
        raise AssertionError(
            _spectrum_failure(question, values, every, distance, allowed, coarse, V)
        )
    _expect_conclusive(question, allowed, top)
    return _agreement(distance, allowed, 0.0)


def _format(found: Any, like: Array | None) -> float:
    """Return the roundoff of the format in which probes reach an operator."""
    if backend.is_array(found):
        return inputs.roundoff(found)
    if like is not None:
        return inputs.roundoff(like)
    kind = getattr(found, "dtype", None)
    return inputs.roundoff(np.zeros(0, kind if isinstance(kind, np.dtype) else float))


def _spectral(x: np.ndarray) -> float:
    """Return the 2-norm."""
    return float(np.linalg.norm(x, 2))


def _agreement(distance: float, allowed: Accuracy, failure: float) -> Agreement:
    doubt = f", except with probability {failure:.0e}" if failure else ""
    text = (
        f"within {distance:.3g} of refspec{doubt}; two right answers may differ by "
        f"{allowed.radius:.3g} ({messages.accuracy_line(allowed)})"
    )
    return Agreement(distance, allowed.radius, failure, text)


def _expect_conclusive(
    question: Question | None, allowed: Accuracy, size: float
) -> None:
    """Refuse to pass where a factor of 2 would have passed too."""
    if size > 0 and not allowed.radius < size / 2:
        what = "the spectrum" if question is None else question.of
        raise ValueError(
            f"cannot tell: two right answers may differ by {allowed.radius:.3g}, the "
            f"size of {what} is {size:.3g}, so that a wrong one would pass "
            f"({messages.accuracy_line(allowed)}); compute in a finer format, give "
            "the snapshot in one, or give fewer layers"
        )


def _operator_failure(
    question: Question,
    order: str | np.ndarray,
    Z: np.ndarray,
    found: np.ndarray,
    again: np.ndarray,
    true: np.ndarray,
    distance: float,
    allowed: Accuracy,
) -> str:
    """Say what is wrong with the products; the first one was made again."""
    size = allowed.radius * inputs.frobenius(Z)
    fits = diagnosis.of_noise(found[:, :1], again, Z[:, :1], allowed.radius)
    fits = fits or diagnosis.of_operator(question, order, Z, found, allowed.u)
    lines = [
        ("distance", messages.radii(distance, allowed.radius)),
        ("radius", messages.accuracy_line(allowed)),
        *messages.blocks(question, found - true, true, size),
        *messages.diagnosis(fits, found, true, size),
    ]
    if not fits:
        lines += [("not tried", x) for x in settings.untried(question, Z.size)]
    return messages.message(
        messages.heading(question, "the operator differs from refspec's"), lines
    )


def _spectrum_failure(
    question: Question | None,
    values: np.ndarray,
    every: np.ndarray,
    distance: float,
    allowed: Accuracy,
    coarse: float,
    V: np.ndarray | None,
) -> str:
    """Say which eigenvalue is off the most, and why."""
    true, first = every[: len(values)], "eigenvalues differ from the spectrum's"
    at = int(np.argmax(np.abs(values - true)))
    fits: list[Fit] = []
    if question is not None:
        fits = diagnosis.of_spectrum(question, values, allowed.u)
        first = messages.heading(question, "eigenvalues differ from refspec's")
        if V is not None and not fits:
            apply = operator(question).apply
            fits = solvers.of_vectors(values, V, apply, every, allowed.radius)
    fits = fits or solvers.of_values(values, every, allowed.radius, coarse)
    lines = [
        ("distance", messages.radii(distance, allowed.radius)),
        ("radius", messages.accuracy_line(allowed)),
        (
            "worst",
            f"number {at + 1} of {len(values)}: found {values[at]:.8g}, expected "
            f"{true[at]:.8g}",
        ),
        *messages.diagnosis(fits, values, true, allowed.radius),
    ]
    return messages.message(first, lines)


def _too_many(question: Question | None, r: int, P: int) -> str:
    first = f"expected at most P = {P} eigenvalues, got {r}"
    return first if question is None else messages.heading(question, first)


def _expect_no_vectors(vectors: Any) -> None:
    """Refuse vectors where only a spectrum is known."""
    if vectors is not None:
        raise ValueError(
            "vectors need a Snapshot or a SecondMoment to be multiplied with, got a "
            "Spectrum; leave them out, or give what the spectrum is of"
        )


def _expect_side(
    found: Any, question: Question, places: np.ndarray, like: Array | None
) -> None:
    """Fail on another side than P, and say which parameters are missing."""
    side, P = inputs.dimension(found), question.parameters
    if side is None or side == P:
        return
    lines = [("side", f"found {side} x {side}, expected P x P with P = {P}")]
    groups = parameter_groups(question)
    biases = sum(int(mask.sum()) for _, part, mask in groups if part == "bias")
    if side == P - biases and biases:
        lines.append(
            (
                "diagnosis",
                "the bias is left out: features need the appended one, a last column "
                f"equal to 1 ({biases} biases) [bias left out]",
            )
        )
    else:
        lines += _missing(found, question, places, like, side)
    for other in question.snapshot.layers:
        asked = Question(question.snapshot, (other.name,), question.of)
        if asked.parameters == side and question.layers != (other.name,):
            lines.append(
                ("diagnosis", f"the side is that of layer {other.name!r} [other layer]")
            )
    raise AssertionError(
        messages.message(
            messages.heading(question, "the operator's side is off"), lines
        )
    )


def _missing(
    found: Any, question: Question, places: np.ndarray, like: Array | None, side: int
) -> list[tuple[str, str]]:
    """Name one or two groups of parameters without which the operator is right."""
    groups, lines = parameter_groups(question), []
    every = [c for r in (1, 2) for c in itertools.combinations(groups, r)]
    for gone in every:
        kept = ~np.any([mask for _, _, mask in gone], axis=0)
        if int(kept.sum()) != side:
            continue
        Z = inputs.probes(side, PROBES, _format(found, like), 0)
        there = np.argsort(np.argsort(places[kept]))
        products, u = inputs.products(found, Z, there, like)
        wide = np.zeros((len(kept), PROBES))
        wide[kept] = Z
        gap = inputs.frobenius(products - operator(question).apply(wide)[kept])
        if gap <= accuracy(question, u).radius * inputs.frobenius(Z):
            words = ", ".join(
                f"{layer}'s {part}" if part else layer for layer, part, _ in gone
            )
            text = (
                f"{words} are missing from the parameters, the rest is right; give all "
                "of them, or ask without them [missing parameter]"
            )
            lines.append(("diagnosis", text))
    return lines
