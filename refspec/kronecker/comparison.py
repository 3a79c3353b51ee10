"""How well KFAC, EKFAC and CFAC reproduce the spectrum of a layer's Fisher.

Nothing of size P x P is held: KFAC's and EKFAC's spectra are free, the top of the
Fisher's and of CFAC's come from products, Frobenius errors from columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, checks, curvature, rounding, spectra, structure
from refspec.classes import Layer, Snapshot
from refspec.curvature import SecondMoment
from refspec.kronecker import origins
from refspec.kronecker.conventions import expect_setting
from refspec.kronecker.eigenbasis import KroneckerBasis, diagonalised
from refspec.kronecker.eigensystems import times_power, unit_scaled
from refspec.kronecker.kfac import cfac, ekfac, kfac
from refspec.kronecker.leading import Leading, OnHost, leading
from refspec.kronecker.products import Kronecker, KroneckerSum
from refspec.results import Result, View, ranks

#: Parameters of a layer beyond which a comparison is refused: it takes P^2 numbers.
LARGEST = 20_000

_ENTRIES = 2**20  # of the columns of a matrix held at a time


@dataclass(frozen=True, slots=True, eq=False)
class LayerComparison(Result):
    """The layer Fisher against its approximations, each a row of every mapping.

    Parameters
    ----------
    fisher : array, shape (k,)
        The Fisher's top k = min(C(C-1), number above radius) eigenvalues, descending.
    eigenvalues : mapping of str to array, shape (k,)
        The same of ``kfac``, ``ekfac`` and ``cfac``.
    log10_error : mapping of str to float
        Root mean square over the k of the difference of log10 eigenvalues.
    frobenius_error : mapping of str to float
        ``||approximation - Fisher||_F / ||Fisher||_F``; inf where the Fisher is 0 and
        the approximation is not.
    angles : mapping of str to array, shape (min(C, P),)
        Principal angles between the spans of the top C eigenvectors, descending, in
        radians; of no meaning where eigenvalues C and C + 1 are within twice radius.
    radius : float
        Every eigenvalue, of the Fisher and of the approximations, is within it of the
        exact one; smaller ones of the Fisher are not resolved and are left out.
    kinds : mapping of str to list of str, length k
        For ``fisher`` and each approximation: ``outlier`` for an eigenvalue mostly made
        of class means, ``bump`` of cross-class means, ``bulk`` of the rest.
    class_rank : mapping of str to int
        Rank of the part made of class means: at most C for ``fisher`` and ``cfac``, up
        to C^2 for ``kfac``.
    how : str, how the radius is known
    """

    fisher: np.ndarray
    eigenvalues: Mapping[str, np.ndarray]
    log10_error: Mapping[str, float]
    frobenius_error: Mapping[str, float]
    angles: Mapping[str, np.ndarray]
    radius: float
    kinds: Mapping[str, list[str]]
    class_rank: Mapping[str, int]
    how: str

    def __repr__(self) -> str:
        """Say how many eigenvalues were compared, and how far off each is."""
        errors = ", ".join(f"{n} {x:.3g}" for n, x in self.log10_error.items())
        return f"LayerComparison({len(self.fisher)} eigenvalues; log10 error: {errors})"

    def view(self) -> View:
        """Give the top eigenvalues of the Fisher and of each approximation by rank."""
        values = {"fisher": self.fisher, **self.eigenvalues}
        columns = {"value": values, "kind": self.kinds}
        facts: dict[str, float | str] = {"radius": self.radius, "how": self.how}
        for name in ("log10_error", "frobenius_error", "class_rank"):
            facts |= {f"{name}_{n}": x for n, x in getattr(self, name).items()}
        return View("rank", ranks(len(self.fisher)), columns, "method", facts=facts)


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """A layer at unit scale with its Fisher and approximations."""

    snapshot: Snapshot
    layer: Layer
    setting: str
    moment: SecondMoment
    kfac: Kronecker
    basis: KroneckerBasis  # KFAC's
    ekfac: KroneckerBasis
    cfac: KroneckerSum


def layer_fisher(snapshot: Snapshot, layer: str) -> np.ndarray:
    """Return the dense Fisher (ab, ab) of one layer, from its rows, on the host.

    A derivation apart from `refspec.curvature`: tests compare the two.
    Theory: theory/kronecker.md#K6.
    """
    chosen = snapshot.layer(layer)
    h, errors = backend.to_host(chosen.features), backend.to_host(chosen.errors)
    s = backend.to_host(snapshot.sample_weights)
    root = np.sqrt(s[:, None] * backend.to_host(snapshot.probabilities))
    P = h.shape[2] * errors.shape[3]
    total = np.zeros((P, P), dtype=h.dtype)
    for lo, hi in itertools.pairwise(snapshot.offsets):
        G = np.swapaxes(errors[lo:hi], 2, 3) @ h[lo:hi, None]
        rows = (root[lo:hi, :, None, None] * G).reshape(-1, P)
        total += rows.T @ rows
    return total


def compare_layer(
    snapshot: Snapshot,
    layer: str,
    fisher: np.ndarray | None = None,
    *,
    setting: str = "expand",
    top: int | None = None,
) -> LayerComparison:
    """Compare KFAC, EKFAC and CFAC with the layer Fisher.

    Parameters
    ----------
    snapshot : Snapshot
    layer : str, its name
    fisher : array, shape (ab, ab), optional
        The dense layer Fisher, symmetric, row-major order; by default it is used
        through its rows and never formed, unless it is small.
    setting : {"expand", "reduce"}, treatment of positions in the approximations
    top : int, optional, compare at most so many eigenvalues; default C(C-1)

    Returns
    -------
    LayerComparison

    Raises
    ------
    ValueError, TypeError
        If fisher has another shape, an option is unknown, the layer has more than
        20 000 parameters, eigenvalues overflow, or an argument is of another kind.

    Notes
    -----
    Theory: theory/kronecker.md#K6; theory/kronecker_spectra.md#K15, #K16. Papyan
    (2020), Figures 11 and 12.
    Approximations' eigenvalues below the radius count as the radius: a logarithm of
    rounding would mean nothing. Cost 2 N P^2 + 2 C P^2 (a + b) operations for the
    Frobenius errors, and the products that the top takes; memory O(N C k + P k).

    Examples
    --------
    >>> import refspec
    >>> sorted(compare_layer(refspec.datasets.digits_mlp(), "fc3").eigenvalues)
    ['cfac', 'ekfac', 'kfac']
    """
    checks.expect_type(
        "snapshot", snapshot, Snapshot, "make one with refspec.snapshot(...)"
    )
    P, C = snapshot.layer(layer).parameters, snapshot.probabilities.shape[1]
    k = C * (C - 1) if top is None else checks.expect_size("top", top, least=1)
    expect_setting(setting)
    if fisher is not None:
        checks.expect_array("fisher", fisher, "(P, P)", sizes={"P": P}, symmetric=True)
    if P > LARGEST:
        raise ValueError(
            f"a layer to compare must have P <= {LARGEST} parameters, got {P} in "
            f"{layer!r}; compare a narrower layer, or use kfac and cfac as operators"
        )
    at, e = _unit_layer(snapshot, layer, setting)
    if fisher is None:
        F = OnHost.of(at.moment)
    else:
        A = times_power(backend.to_host(fisher), -e)
        F = OnHost(lambda V: A @ V, A[0], lambda: A)
    k = min(k, P)
    tops = _tops(at, F, max(k, min(C, P)))  # the angles are between C vectors
    radius = _forming(at) + max(x.radius for x in tops.values())
    k = int(np.sum(tops["fisher"].values[:k] > radius))
    found = {name: x.values[:k] for name, x in tops.items()}
    kinds, ranks = _origins(at, tops, k)
    values, size = _rescaled(found, radius, e)
    seen = {"kfac": OnHost.of(at.basis), "ekfac": OnHost.of(at.ekfac)}
    seen["cfac"] = OnHost.of(at.cfac)
    return LayerComparison(
        values.pop("fisher"),
        values,
        _log10_errors(found, radius),
        _frobenius_errors(F, seen),
        {n: _angles(tops["fisher"], tops[n], min(C, P)) for n in values},
        size,
        kinds,
        ranks,
        tops["fisher"].kind,
    )


def _unit_layer(snapshot: Snapshot, layer: str, setting: str) -> tuple[_Compared, int]:
    """Return a layer with its Fisher times 2**-e and e: squares keep their digits.

    Features and errors are scaled by powers of two, which is exact.
    """
    x = snapshot.layer(layer)
    xp = backend.namespace(x.features)
    (h, e), (d, f) = unit_scaled(x.features, xp), unit_scaled(x.errors, xp)
    x = Layer(x.name, h, d)
    s = replace(snapshot, layers=(x,), model=None)
    one = kfac(s, layer, setting=setting)
    two = ekfac(s, layer, setting=setting)
    three = cfac(s, layer, setting=setting)
    moment = curvature.fisher(s, [layer])
    at = _Compared(s, x, setting, moment, one, diagonalised(one), two, three)
    return at, 2 * (e + f)


def _rescaled(
    found: Mapping[str, np.ndarray], radius: float, e: int
) -> tuple[dict[str, np.ndarray], float]:
    """Undo `_unit_layer`; what overflows is refused, what underflows in the radius."""
    back = {name: times_power(x, e) for name, x in found.items()}
    if not all(np.all(np.isfinite(x)) for x in back.values()):
        raise ValueError(
            f"eigenvalues must be representable, got some of about 2**{e}; divide the "
            "features or the errors by a power of two"
        )
    tiny = np.finfo(found["fisher"].dtype).smallest_normal
    return back, float(times_power(np.float64(radius), e)) + (radius > 0) * float(tiny)


def _tops(at: _Compared, F: OnHost, n: int) -> dict[str, Leading]:
    """Return the n largest eigenvalues of the Fisher and of its approximations."""
    return {
        "fisher": leading(F, n),
        "kfac": _basis_top(at.basis, n, at.kfac.certified_eigenvalues()[1]),
        "ekfac": _basis_top(at.ekfac, n, 0.0),
        "cfac": leading(OnHost.of(at.cfac), n),
    }


def _basis_top(operator: KroneckerBasis, n: int, radius: float) -> Leading:
    """Take the largest values of a Kronecker eigenbasis with their vectors."""
    values = backend.to_host(operator.values)
    Q, R = (backend.to_host(x) for x in (operator.left, operator.right))
    order = _descending(operator)[:n]
    j, i = np.unravel_index(order, values.shape)
    vectors = (Q[:, None, j] * R[None, :, i]).reshape(values.size, len(order))
    return Leading(values[j, i], vectors, radius, "a posteriori")


def _descending(operator: KroneckerBasis) -> np.ndarray:
    """Return the order of a basis's values, largest first."""
    values = backend.to_host(operator.values)
    return np.argsort(-values, axis=None, kind="stable")


def _forming(at: _Compared) -> float:
    """Bound the rounding of the matrices themselves, twice in a product."""
    rows = 2 * math.prod(at.layer.errors.shape[:3]) + at.layer.parameters + 8
    size = max(at.moment.trace(), at.kfac.trace(), at.cfac.trace())
    u = rounding.unit_roundoff(at.layer.errors)
    return rounding.second_moment_radius(rows, size, u)


def _log10_errors(found: Mapping[str, np.ndarray], radius: float) -> dict[str, float]:
    """Return the rms difference of log10 eigenvalues to the Fisher's; 0 of none."""
    truth, errors = found["fisher"], {}
    for name, values in found.items():
        ratio = np.log10(np.maximum(values, radius) / truth)
        errors[name] = float(np.sqrt(np.mean(ratio**2))) if len(truth) else 0.0
    del errors["fisher"]
    return errors


def _angles(one: Leading, other: Leading, C: int) -> np.ndarray:
    """Return the principal angles between the top C vectors of two, descending."""
    V, W = (np.linalg.qr(x.vectors[:, :C])[0] for x in (one, other))
    inside = V.T @ W  # coordinates of W along V; then in a basis of what is beyond
    beyond = np.linalg.qr(W - V @ inside, mode="r")
    return spectra.principal_angles(np.concatenate([inside, beyond]), C)[::-1]


def _frobenius_errors(
    F: OnHost, approximations: Mapping[str, OnHost]
) -> dict[str, float]:
    """Return ||A - F||_F / ||F||_F from a block of columns at a time."""
    P, norm = len(F.like), 0.0
    step = max(16, _ENTRIES // P)
    totals = dict.fromkeys(approximations, 0.0)
    for start in range(0, P, step):
        m = min(step, P - start)
        E = np.zeros((P, m), dtype=F.like.dtype)
        E[np.arange(start, start + m), np.arange(m)] = 1
        columns = F.product(E)
        norm += float(np.sum(columns**2))
        for name, A in approximations.items():
            totals[name] += float(np.sum((A.product(E) - columns) ** 2))
    none = {m: math.inf if x else 0.0 for m, x in totals.items()}
    return {m: (x / norm) ** 0.5 for m, x in totals.items()} if norm else none


def _origins(
    at: _Compared, tops: Mapping[str, Leading], k: int
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Name the origin of the top k eigenvalues; count the class parts' dimensions."""
    flat = origins.positions_apart(at.snapshot, at.layer.name, at.setting)
    means, pi = origins.factor_means(flat), backend.to_host(at.cfac.coefficients)
    pairs = {m: (x.values[:k], x.vectors[:, :k]) for m, x in tops.items()}
    every = origins.product_shares(means, at.basis)
    order = _descending(at.basis)[:k]
    found = {
        "fisher": origins.fisher_shares(at.moment, *pairs["fisher"]),
        "kfac": {n: x.ravel()[order] for n, x in every.items()},
        "ekfac": origins.fisher_shares(at.moment, *pairs["ekfac"]),
        "cfac": origins.class_shares(means, pi, *pairs["cfac"]),
    }
    roundings = 2 * math.prod(flat.probabilities.shape) + 8
    rows = origins.class_rows(curvature.errors(flat, at.layer.name))
    h = np.tile(origins.own_means(means.features, pi), (2, 1))
    own = (rows[:, :, None] * h[:, None, :]).reshape(len(rows), -1)
    rank = origins.numerical_rank
    ranks = {
        "fisher": rank(origins.class_rows(at.moment), roundings),
        "kfac": rank(rows, roundings) * rank(means.features, roundings),
        "cfac": rank(own, roundings),
    }
    return {n: structure.kinds(x) for n, x in found.items()}, ranks
