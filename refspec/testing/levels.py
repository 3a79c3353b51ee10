"""Assert that levels of a second moment, or the means they are made of, are right."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refspec import backend, checks, curvature, structure
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.factors import lengths
from refspec.testing import inputs, means, messages
from refspec.testing.accuracy import (
    Accuracy,
    format_roundoff,
    level_radius,
    mean_radius,
)
from refspec.testing.diagnosis import fitting
from refspec.testing.fits import Fit, explained
from refspec.testing.mistakes import scales
from refspec.testing.questions import Question, ask

#: Means as vectors; those of cross classes only where there are some.
_MEANS = ("class_means", "cross_class_means")


def assert_levels(
    found: Mapping[str, Any],
    snapshot: Snapshot | SecondMoment,
    *,
    of: str = "fisher",
    layer: str | None = None,
    convention: str = "2020",
    order: str | np.ndarray = "row_major",
    dtype: str | None = None,
    like: Array | None = None,
    seed: int = 0,
) -> None:
    """Assert that matrices, operators or traces are the levels of a second moment.

    Parameters
    ----------
    found : mapping of str to matrix, operator, callable or number
        By name of the level, as `refspec.decompose` names them. A number is a trace.
        Any level may be missing. Means themselves are ``class_means``, an array (C, P)
        of the v_c, and ``cross_class_means``, (C, C, P) of the v_{c,c'}; of features
        ``global_mean`` may be the vector (P,).
    snapshot : Snapshot or SecondMoment
        Of a moment by differentiation, a Fisher's, all parameters.
    of : {"fisher", "errors", "features"}
        Whose levels; errors and features are those of one layer.
    layer : str, optional
        All layers if not given (of the Fisher).
    convention : {"2020", "2019"}
        Means weighted by p, or plain means of sqrt(p) times the vectors.
    order, dtype, like, seed
        As in `refspec.testing.assert_operator`; the order is of the Fisher.

    Raises
    ------
    AssertionError
        If a level differs by more than a right one can.
    ValueError, TypeError
        If a name or an argument is unknown, or a level is not finite or not real or
        cannot be multiplied with.

    Notes
    -----
    Theory: theory/levels.md#L1, #L2, #L5. All levels are compared on the same 20
    Gaussian vectors; means in the Frobenius norm. A class mean of errors or gradients
    leaves c' = c out.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> split = refspec.decompose(refspec.curvature.errors(s, "fc2"))
    >>> mine = {name: x.matrix() for name, x in split.levels.items()}
    >>> assert_levels(mine, s, of="errors", layer="fc2")
    """
    checks.expect_type("found", found, Mapping, "give a dict of levels by name")
    checks.expect_choice("of", of, ("fisher", "errors", "features"))
    checks.expect_choice("convention", convention, ("2020", "2019"))
    checks.expect_size("seed", seed)
    inputs.expect_like(like)
    question = ask(snapshot, "fisher", layer, "expand")
    if of != "fisher" and (layer is None or len(question.layers) != 1):
        raise ValueError(
            f"{of} must be those of one layer, got layer {layer!r}; name one of "
            f"{[x.name for x in question.snapshot.layers]}"
        )
    moment = _moment(question, of)
    moments = {"2020": moment, "2019": structure.plain_means(moment)}
    levels = {year: structure.decompose(x).levels for year, x in moments.items()}
    K, P = moment.rows.shape[1:]
    known = sorted([*levels[convention], *_MEANS[: 1 + (K > 1)]])
    unknown = sorted(str(x) for x in set(found) - set(known))
    if unknown or not found:
        raise ValueError(
            f"levels of {of} must be some of {known}, got {unknown or 'none'}; rename "
            "or add them"
        )
    places = np.arange(P) if of != "fisher" else inputs.order_places(question, order)
    u = 0.0 if dtype is None else format_roundoff(dtype)
    formats = [_roundoff(x, like) for x in found.values()]
    Z = inputs.probes(P, 20, max(u, *formats), seed)
    true = {
        year: {name: x.matvec(Z) for name, x in those.items()}
        for year, those in levels.items()
    }
    other = "2019" if convention == "2020" else "2020"
    for name, level in found.items():
        if name in _MEANS or (K == 1 and name == "global_mean" and _is_vector(level)):
            years = moments[convention], moments[other]
            _check_means(question, of, name, level, years, other, places, u)
            continue
        if _is_number(level):
            trace = checks.expect_number(f"the trace of {name}", _number(level))
            _check_trace(question, of, name, trace, levels[convention], u)
            continue
        products, format_ = inputs.products(level, Z, places, like)
        allowed = level_radius(question, of, max(u, format_))
        gaps = lengths(products - true[convention][name], 0)
        distance = float(np.max(gaps / lengths(Z, 0)))
        if not distance <= allowed.radius:
            size = allowed.radius * inputs.frobenius(Z)
            fits = _explain(question, name, products, true, (convention, other), size)
            fits += _weighed(question, of, name, convention, Z, products, size)
            raise AssertionError(
                _failure(question, of, name, distance, allowed)
                + _why(fits, products, true[convention][name], size)
            )


def _moment(question: Question, of: str) -> SecondMoment:
    snapshot = question.snapshot
    if of == "fisher":
        return curvature.fisher(snapshot, question.layers)
    build = curvature.errors if of == "errors" else curvature.features
    return build(snapshot, question.layers[0])


def _is_number(level: Any) -> bool:
    """Whether a level is a trace, an array without axes included."""
    if backend.is_array(level):
        return tuple(level.shape) == ()
    return isinstance(level, numbers.Number)


def _number(level: Any) -> Any:
    """Return a trace as Python's number; what is none is refused later."""
    return backend.to_host(level)[()] if backend.is_array(level) else level


def _roundoff(level: Any, like: Array | None) -> float:
    if like is not None:
        return inputs.roundoff(like)
    return inputs.roundoff(level) if backend.is_array(level) else 0.0


def _check_trace(
    question: Question,
    of: str,
    name: str,
    trace: float,
    levels: Mapping[str, SecondMoment],
    u: float,
) -> None:
    """Compare one trace; traces of sums of levels are tried as an explanation."""
    allowed = level_radius(question, of, max(u, inputs.roundoff(np.zeros(0))))
    # the trace of a difference is at most its rank times its norm; rows bound both
    true = {key: x.trace() for key, x in levels.items()}
    distance = abs(trace - true[name])
    if distance <= allowed.trace:
        return
    allowed = replace(allowed, radius=allowed.trace)
    fits = []
    for names in _sums(true, name):
        gap = abs(trace - sum(true[x] for x in names))
        if gap <= allowed.radius:
            fits.append(Fit(*_said(names), gap / allowed.radius))
    for key, (s, text) in scales(question).items():
        gap = abs(trace - s * true[name])
        if gap <= abs(s) * allowed.radius:
            fits.append(Fit(key, text, gap / (abs(s) * allowed.radius)))
    raise AssertionError(
        _failure(question, of, f"trace of {name}", distance, allowed)
        + _why(fits, np.array([trace]), np.array([true[name]]), allowed.radius)
    )


def _explain(
    question: Question,
    name: str,
    products: np.ndarray,
    true: Mapping[str, Mapping[str, np.ndarray]],
    years: tuple[str, str],
    size: float,
) -> list[Fit]:
    """Try sums of levels, the other convention, usual factors, and nothing at all."""
    said, other = (true[x] for x in years)
    fits: list[Fit] = []
    for names in _sums(said, name):
        total = np.sum([said[x] for x in names], axis=0)
        fits += explained(*_said(names), total, products, size)
    if name in other:
        text = _convention(years[1])
        fits += explained("convention", text, other[name], products, size)
    fits += fitting("", "", said[name], size, scales(question), products)
    if "diagonal" in said:
        fits += _vanished(products, size)
    return fits


def _weighed(
    question: Question,
    of: str,
    name: str,
    convention: str,
    Z: np.ndarray,
    products: np.ndarray,
    size: float,
) -> list[Fit]:
    """Try other weights of the classes and cross classes that means are made with."""

    def seen(q: Question) -> SecondMoment:
        made = _moment(q, of)
        return made if convention == "2020" else structure.plain_means(made)

    fits: list[Fit] = []
    true, snapshot = means.of_moment(seen(question)), question.snapshot
    for other, text, made in means.other_levels(name, true, Z):
        fits += explained(other, text, made, products, size)
    counts = np.bincount(snapshot.labels, minlength=len(true.mass))
    if np.ptp(counts) > 0 and np.all(counts > 0):
        s = 1 / counts[snapshot.labels] / len(counts)
        alike = replace(question, snapshot=replace(snapshot, sample_weights=s))
        made = structure.decompose(seen(alike)).levels[name].matvec(Z)
        text = (
            "every class counts alike, 1/C, though the classes are of different sizes: "
            "weigh a class with its share of the samples"
        )
        fits += explained("classes weighed alike", text, made, products, size)
    return fits


def _check_means(
    question: Question,
    of: str,
    name: str,
    given: Any,
    years: tuple[SecondMoment, SecondMoment],
    other: str,
    places: np.ndarray,
    u: float,
) -> None:
    """Compare means as vectors; other weights are tried as an explanation."""
    x = inputs.host_real(name, given)
    C, (_, K, P) = question.snapshot.probabilities.shape[1], years[0].rows.shape
    shape = {"class_means": "(C, P)", "cross_class_means": "(C, K, P)"}
    checks.expect_array(
        name, x, shape.get(name, "(P,)"), sizes={"C": C, "K": K, "P": P}
    )
    checks.expect_finite(name, x)
    x = x[..., places]
    true = means.of_moment(years[0])
    right = _named(name, true)
    u = max(u, inputs.roundoff(given))
    allowed = mean_radius(question, of, name, years[0].weights, u)
    distance = inputs.frobenius(x - right)
    if distance <= allowed.radius:
        return
    size = inputs.frobenius(right)
    tried = list(means.other_vectors(name, years[0], true, x))
    if K > 1:
        conventional = _named(name, means.of_moment(years[1]))
        tried.append(("convention", _convention(other), conventional))
    fits = fitting("", "", right, allowed.radius, scales(question), x)
    for label, text, made in tried:
        wide = max(1.0, inputs.frobenius(made) / size if size > 0 else 1.0)
        fits += explained(label, text, made, x, allowed.radius * wide)
    if K > 1 and name == "class_means":
        fits += _vanished(x, allowed.radius)
    raise AssertionError(
        _failure(question, of, name, distance, allowed)
        + _why(fits, x, right, allowed.radius)
    )


def _named(name: str, of: means.Means) -> np.ndarray:
    """Return class means, cross-class means or their mean."""
    if name == "class_means":
        return of.classes
    return of.cells if name == "cross_class_means" else of.overall


def _is_vector(level: Any) -> bool:
    return backend.is_array(level) and len(level.shape) == 1


def _convention(year: str) -> str:
    how = "plain means of sqrt(p) times" if year == "2019" else "means of"
    return f"the {year} convention: {how} the vectors; pass convention={year!r}"


def _vanished(found: np.ndarray, size: float) -> list[Fit]:
    """Explain what is zero: the score identity, of errors and gradients."""
    if inputs.frobenius(found) > size:
        return []
    text = "it is zero: means over every c', c' = c too, vanish (score identity)"
    return [Fit("c' = c not left out", text, 0.0)]


def _sums(levels: Mapping[str, Any], name: str) -> list[tuple[str, ...]]:
    """Return every other set of levels, single ones first."""
    sets = (
        names
        for r in range(1, len(levels) + 1)
        for names in itertools.combinations(levels, r)
    )
    return [x for x in sets if x != (name,)]


def _said(names: tuple[str, ...]) -> tuple[str, str]:
    """Return the name and the sentence of a sum of levels."""
    text = " + ".join(names)
    return text, f"it is {text}: these levels are not apart"


def _failure(
    question: Question, of: str, name: str, distance: float, allowed: Accuracy
) -> str:
    where = ", ".join(question.layers)
    what = name if name in _MEANS else f"level {name}"
    return messages.message(
        f"{what} of the {of} of {where} differs from refspec's",
        [
            ("distance", messages.radii(distance, allowed.radius)),
            ("radius", messages.accuracy_line(allowed)),
        ],
    )


def _why(fits: list[Fit], found: np.ndarray, true: np.ndarray, size: float) -> str:
    return "\n" + messages.message("", messages.diagnosis(fits, found, true, size))[1:]
