"""Second moments of features, errors and gradients, without forming the gradients.

Stack the weighted vectors ``sqrt(w_{i,c,c'}) x_{i,c,c'}`` as the rows of X. The second
moment is X'X (P x P), its Gram matrix X X' has the same non-zero eigenvalues. A row of
gradients is a sum over positions of Kronecker products, errors (x) features, and all
layers together are its concatenation, so that both matrices come from the two small
factors of each layer: the Gram is a sum over layers of Hadamard products (Khatri-Rao),
the primal blocks are contractions over samples of packed symmetric products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Layer, OutputLayer, Snapshot, class_slices
from refspec.factors import Factor, Factors, weighted
from refspec.output import OutputRows, output_rows, side_by_side
from refspec.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class SecondMoment:
    """X'X for rows X that are never formed, optionally with rows projected: X'QX.

    Parameters
    ----------
    rows : Rows
        X, shape (N, K, P), known through products.
    weights : Array, shape (N, K)
        The w of each row; class means average with them.
    offsets : tuple of int, length C + 1
        Class c is ``offsets[c]:offsets[c + 1]`` of the samples.
    scored : bool
        Whether sum_c' sqrt(p) x = 0 is expected of every sample (K = C).
    projection : callable or None
        An orthogonal projection Q of the row index space, (N, K, m) to (N, K, m);
        None is the identity.

    Notes
    -----
    Theory: theory/curvature.md#C1, #C2.
    """

    rows: Rows
    weights: Array
    offsets: tuple[int, ...]
    scored: bool = False
    projection: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        advice = "refspec.curvature.fisher, features or errors make a moment"
        checks.expect_type("rows", self.rows, Rows, advice)
        N, K, _ = self.rows.shape
        sizes = {"N": N, "K": K}
        w, offsets = self.weights, self.offsets
        checks.expect_array("weights", w, "(N, K)", sizes=sizes, nonnegative=True)
        checks.expect_alike(rows=self.rows.like, weights=w)
        checks.expect_type("offsets", offsets, tuple, "give those of the classes")
        steps = pairwise(offsets)
        if offsets[:1] != (0,) or offsets[-1] != N or any(j < i for i, j in steps):
            raise ValueError(
                f"offsets must ascend from 0 to N = {N}, got {offsets}; class c is "
                "offsets[c]:offsets[c + 1] of the samples"
            )
        if not (self.projection is None or callable(self.projection)):
            raise TypeError(
                "projection must be callable, (N, K, m) to (N, K, m), or None, got "
                f"{type(self.projection).__name__}; decompose(moment) makes some"
            )

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        N, K, P = self.rows.shape
        seen = "" if self.projection is None else ", projected"
        C = len(self.offsets) - 1
        return (
            f"SecondMoment(N={N}, C={C}, K={K}, P={P}, trace={self.trace():.6g}{seen})"
        )

    @property
    def xp(self) -> Namespace:
        """The array namespace."""
        return backend.namespace(self.weights)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows N K and columns P of X."""
        N, K, P = self.rows.shape
        return N * K, P

    def project(self, rows: Array) -> Array:
        """Apply the projection to arrays over the rows, (N, K, m)."""
        return rows if self.projection is None else self.projection(rows)

    def matrix(self) -> Array:
        """Return X'QX, shape (P, P). Cost O(N P^2), not N K P^2, for dense layers."""
        if self.projection is None:
            return _symmetric(self.rows.second(), self.xp)
        parts = (self.rows.cross(self.project(x)) for x in self.rows.columns())
        return _symmetric(backend.concatenate(parts, axis=1), self.xp)

    def gram(self) -> Array:
        """Return the Gram matrix QXX'Q, shape (N K, N K), without forming X."""
        n, xp = self.shape[0], self.xp
        K = self.rows.outer()
        if self.projection is not None:
            shape = (*self.weights.shape, n)
            for _ in range(2):  # symmetric, so that its columns are its rows
                K = xp.reshape(self.project(xp.reshape(K, shape)), (n, n))
                K = xp.matrix_transpose(K)
        return _symmetric(K, xp)

    def trace(self) -> float:
        """Return the trace, the sum of all eigenvalues."""
        if self.projection is None:
            return self.rows.trace()
        squares = (self.project(x) ** 2 for x in self.rows.columns())
        added = self.rows.group.added
        return sum(backend.scalar(added(self.xp.sum(x))) for x in squares)

    def matvec(self, v: Array) -> Array:
        """Return X'QX v for v of shape (P,) or (P, m). Cost O(N K b m + N a b m)."""
        one = backend.is_array(v) and len(v.shape) == 1
        self._expect("v", v, "(P,)" if one else "(P, m)")
        columns = v[:, None] if one else v
        if self.projection is None:
            out = self.rows.second_times(columns)
        else:
            out = self.rows.cross(self.projection(self.rows.dot(columns)))
        return self.xp.reshape(out, v.shape)

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m), for V of shape (P, m)."""
        self._expect("V", V, "(P, m)")
        return self.rows.dot(V)

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m), for Z over the rows, (N, K, m)."""
        self._expect("Z", Z, "(N, K, m)")
        return self.rows.cross(Z)

    def _expect(self, name: str, x: Array, letters: str) -> None:
        """Refuse what the rows cannot be multiplied with."""
        sizes = dict(zip("NKP", self.rows.shape, strict=True))
        checks.expect_array(name, x, letters, sizes=sizes)
        backend.namespace(x, self.rows.like)


def moment_of(what: SecondMoment | Snapshot) -> SecondMoment:
    """Return a moment as it is, and the Fisher information of a snapshot."""
    if isinstance(what, Snapshot):
        return fisher(what)
    if isinstance(what, SecondMoment):
        return what
    raise TypeError(
        "expected a SecondMoment (refspec.fisher, features, errors) or a Snapshot, got "
        f"{type(what).__name__}; refspec.snapshot(...) or refspec.load(...) makes one"
    )


def in_pieces(moment: SecondMoment) -> SecondMoment:
    """Return a moment whose arrays over the rows are of this process's rows alone.

    Where every process of a group has such arrays whole, each of its own samples.
    """
    rows, mine = moment.rows.in_pieces()
    if mine is None or moment.projection is not None:
        return moment
    weights = moment.xp.take(
        moment.weights, backend.from_host(mine, moment.weights), axis=0
    )
    offsets = tuple(np.searchsorted(mine, moment.offsets).tolist())
    return replace(moment, rows=rows, weights=weights, offsets=offsets)


def expect_fisher(name: str, moment: SecondMoment) -> SecondMoment:
    """Refuse a moment without cross classes, as of features; return it."""
    if moment.weights.shape[1] == 1:
        raise ValueError(
            f"{name} must be a Fisher information, with K = C cross classes, got a "
            "moment of K = 1; take refspec.fisher of the snapshot"
        )
    return moment


def features(snapshot: Snapshot, layer: str) -> SecondMoment:
    """Return the second moment of the features entering a layer (K = 1).

    Parameters
    ----------
    snapshot : Snapshot
        N samples.
    layer : str
        Its name. Positions are raveled into one vector of T a features.

    Returns
    -------
    SecondMoment
        sum_i s_i h_i h_i', s the sample weights.

    Notes
    -----
    Theory: theory/curvature.md#C1. Papyan (2020), section 4: features are indexed (i,
    c).

    Examples
    --------
    >>> import refspec
    >>> features(refspec.datasets.digits_mlp(), "fc1").shape[1]
    65
    """
    _expect_snapshot(snapshot)
    xp, h = backend.namespace(snapshot.probabilities), snapshot.layer(layer).features
    s = snapshot.sample_weights
    roots = xp.reshape(h, (h.shape[0], 1, 1, -1)) * xp.sqrt(s)[:, None, None, None]
    return SecondMoment(Factors((Factor(roots, None),)), s[:, None], snapshot.offsets)


def errors(snapshot: Snapshot, layer: str) -> SecondMoment:
    """Return the second moment of the errors coming back to a layer (K = C).

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name. Positions are raveled into one vector of T b errors.

    Returns
    -------
    SecondMoment
        sum_{i,c'} s_i p_{i,c'} delta delta'.

    Notes
    -----
    Theory: theory/curvature.md#C1; theory/levels.md#L8. Papyan (2020), section 5:
    errors are indexed (i, c, c').

    Examples
    --------
    >>> import refspec
    >>> errors(refspec.datasets.digits_mlp(), "fc1").scored
    True
    """
    _expect_snapshot(snapshot)
    s, p = snapshot.sample_weights, snapshot.probabilities
    xp = backend.namespace(p)
    chosen, root = snapshot.layer(layer), xp.sqrt(s)[:, None] * xp.sqrt(p)
    rows: Rows
    if isinstance(chosen, OutputLayer):
        rows = output_rows(p, s, xp.ones_like(p[:, :1]))
    else:  # the product s p could underflow
        rows = Factors((Factor(chosen.errors * root[:, :, None, None], None),))
    return SecondMoment(rows, s[:, None] * p, snapshot.offsets, scored=True)


def fisher(snapshot: Snapshot, layers: Sequence[str] | None = None) -> SecondMoment:
    r"""Return the Fisher information: the second moment of the extended gradients.

    It equals the Gauss-Newton matrix of the cross-entropy; labels are averaged over
    the model's own probabilities (it is not the empirical Fisher).

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layers : sequence of str, optional
        Names of the layers to concatenate; all of them by default.

    Returns
    -------
    SecondMoment
        :math:`\sum_{i,c'} s_i p_{i,c'} g_{i,c'} g_{i,c'}'`, P the parameters.

    Notes
    -----
    Theory: theory/curvature.md#C1, #C2, #C3, #C6. Papyan (2020), eq. (6.2) weights,
    (7.5) layer blocks.

    Examples
    --------
    >>> import refspec
    >>> snapshot = refspec.datasets.digits_mlp()
    >>> total = fisher(snapshot).trace()
    >>> total > fisher(snapshot, ["fc1"]).trace() > 0
    True
    """
    chosen = _layers(snapshot, layers)
    s, p = snapshot.sample_weights, snapshot.probabilities
    rows = side_by_side([weighted_rows(x, s, p, 0, p.shape[0]) for x in chosen])
    return SecondMoment(rows, s[:, None] * p, snapshot.offsets, scored=True)


def empirical_fisher(
    snapshot: Snapshot, layers: Sequence[str] | None = None
) -> SecondMoment:
    """Return the second moment of the ordinary gradients, at the observed labels.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layers : sequence of str, optional
        Names of the layers to concatenate; all of them by default.

    Returns
    -------
    SecondMoment
        sum_i s_i g_{i,c} g_{i,c}', K = 1: one gradient a sample.

    Notes
    -----
    Theory: theory/curvature.md#C4. It is not the Fisher information, however well the
    network fits.

    Examples
    --------
    >>> import refspec
    >>> empirical_fisher(refspec.datasets.digits_mlp()).weights.shape[1]
    1
    """
    chosen = _layers(snapshot, layers)
    s, factors = snapshot.sample_weights, []
    one = backend.namespace(s).ones_like(s)[:, None]
    for x in chosen:
        own = [
            x.errors[i:j, c : c + 1, ...] for c, i, j in class_slices(snapshot.offsets)
        ]
        factors.append(weighted(backend.concatenate(own), x.features, (s, one)))
    return SecondMoment(Factors(tuple(factors)), s[:, None], snapshot.offsets)


def score_reduced(moment: SecondMoment) -> Rows:
    """Return C - 1 rows a sample in place of C: what is left out are `scores`.

    Theory: theory/curvature.md#C5; theory/levels.md#L3.
    """
    return moment.rows.reduced(unit_weights(moment), moment.offsets)


def scores(moment: SecondMoment) -> float:
    """Return the trace of the scores, sum_i ||sum_c' u_{ic'} x_{ic'}||^2.

    Theory: theory/curvature.md#C5.
    """
    return moment.rows.scores(unit_weights(moment), moment.offsets)


def vanishing_scores(moment: SecondMoment, trace: float | None = None) -> float | None:
    """Return the trace of scores that do not count; None if there are none, or they do.

    Levels see them to first order: they must be as small as rounding is, beside a trace
    that is no less than `trace`. Theory: theory/curvature.md#C5.
    """
    if not moment.scored or moment.projection is not None:
        return None
    dropped = scores(moment)
    if not dropped:
        return dropped
    trace = moment.rows.at_least() if trace is None else trace
    most = moment.shape[0] * rounding.unit_roundoff(moment.weights) * trace
    return dropped if 2 * math.sqrt(dropped * trace) <= most else None


def unit_weights(moment: SecondMoment) -> Array:
    """Return u_i = sqrt(w_i) / ||sqrt(w_i)||, shape (N, K), e_1 for a zero weight."""
    xp, w = moment.xp, moment.weights
    total = xp.sum(w, axis=1, keepdims=True)
    first = xp.astype(xp.arange(w.shape[1], device=backend.device(w)) == 0, w.dtype)
    safe = xp.where(total > 0, total, xp.ones_like(total))
    return xp.where(total > 0, xp.sqrt(w / safe), first[None, :])


def weighted_rows(x: Layer, s: Array, p: Array, i: int, j: int) -> Factor | OutputRows:
    """Return a layer's rows sqrt(s p) errors (x) features of samples i to j."""
    some, q = s[i:j], p[i:j, :]
    if isinstance(x, OutputLayer):
        return output_rows(q, some, x.features[i:j, 0, :])
    return weighted(x.errors[i:j, ...], x.features[i:j, ...], (some, q))


def _layers(snapshot: Snapshot, names: Sequence[str] | None) -> tuple[Layer, ...]:
    """Return the layers called `names`, or all."""
    _expect_snapshot(snapshot)
    if names is None:
        return snapshot.layers
    chosen = checks.expect_names("layers", names, [x.name for x in snapshot.layers])
    if not chosen:
        raise ValueError("layers must be one or more names, got none; leave it out")
    return tuple(map(snapshot.layer, chosen))


def _expect_snapshot(snapshot: Snapshot) -> None:
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)


def _symmetric(x: Array, xp: Namespace) -> Array:
    """Return (x + x') / 2: symmetric to the bit."""
    return (x + xp.matrix_transpose(x)) / 2
