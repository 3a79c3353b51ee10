"""Second moments of features, errors and gradients, without forming the gradients.

Stack the weighted vectors ``sqrt(w_{i,c,c'}) x_{i,c,c'}`` as the rows of X. The second
moment is X'X (P x P), its Gram matrix X X' has the same non-zero eigenvalues. A row of
gradients is a sum over positions of Kronecker products, errors (x) features, and all
layers together are its concatenation, so that both matrices come from the two small
factors of each layer: the Gram is a sum over layers of Hadamard products (Khatri-Rao),
the primal blocks are contractions over samples of packed symmetric products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from refspec import backend
from refspec.backend import Array
from refspec.classes import Layer, Snapshot
from refspec.factors import (
    Factor,
    all_rows,
    column_chunks,
    cross,
    dot,
    gram_rows,
    packed_matrix,
    row_chunks,
    squares,
)

__all__ = [
    "SecondMoment",
    "classes_of",
    "empirical_fisher",
    "errors",
    "features",
    "fisher",
    "score_reduced",
    "unit_weights",
    "without",
]


@dataclass(frozen=True, slots=True, eq=False)
class SecondMoment:
    """X'X for rows X known through their factors, optionally with rows projected: X'QX.

    Parameters
    ----------
    factors : tuple of Factor
        One per layer; a row of X is their concatenation, P entries.
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

    factors: tuple[Factor, ...]
    weights: Array
    offsets: tuple[int, ...]
    scored: bool = False
    projection: Callable[[Array], Array] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows N K and columns P of X."""
        N, K = self.weights.shape
        return int(N * K), sum(f.dimension for f in self.factors)

    def project(self, rows: Array) -> Array:
        """Apply the projection to arrays over the rows, (N, K, m)."""
        return rows if self.projection is None else self.projection(rows)

    def matrix(self) -> Array:
        """Return X'QX, shape (P, P). Cost O(N P^2), not N K P^2, for dense layers."""
        if self.projection is not None:
            return _symmetric(self.cross(self.project(all_rows(self.factors))))
        if all(f.is_product for f in self.factors):
            return packed_matrix(self.factors)
        xp, total = backend.namespace(self.weights), None
        for rows in row_chunks(self.factors):
            part = xp.matrix_transpose(rows) @ rows
            total = part if total is None else total + part
        return _symmetric(total)

    def gram(self) -> Array:
        """Return the Gram matrix QXX'Q, shape (N K, N K), without forming X."""
        n, xp = self.shape[0], backend.namespace(self.weights)
        every = xp.arange(n, device=backend.device(self.weights))
        K = gram_rows(self.factors, every)
        if self.projection is not None:
            shape = (*self.weights.shape, n)
            K = xp.reshape(self.project(xp.reshape(K, shape)), (n, n))
            K = xp.matrix_transpose(K)
            K = xp.reshape(self.project(xp.reshape(K, shape)), (n, n))
        return _symmetric(K)

    def diagonal(self) -> Array:
        """Return the squared norms of the rows of X, shape (N, K)."""
        parts = [squares(f) for f in self.factors]
        return sum(parts[1:], parts[0])

    def trace(self) -> float:
        """Return the trace, the sum of all eigenvalues."""
        xp = backend.namespace(self.weights)
        if self.projection is None:
            return backend.scalar(xp.sum(self.diagonal()))
        total = 0.0
        for f in self.factors:  # columns of X layer by layer, never all of them
            for rows in column_chunks(f):
                total += backend.scalar(xp.sum(self.project(rows) ** 2))
        return total

    def matvec(self, v: Array) -> Array:
        """Return X'QX v for v of shape (P,) or (P, m). Cost O(N K b m + N a b m)."""
        xp = backend.namespace(v, self.weights)
        columns = v if len(v.shape) == 2 else v[:, None]
        out = self.cross(self.project(self.dot(columns)))
        return out if len(v.shape) == 2 else xp.reshape(out, v.shape)

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m), for V of shape (P, m)."""
        parts, start = [], 0
        for f in self.factors:
            parts.append(dot(f, V[start : start + f.dimension, :]))
            start += f.dimension
        return sum(parts[1:], parts[0])

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m), for Z over the rows, (N, K, m)."""
        return backend.concatenate(cross(f, Z) for f in self.factors)


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
    xp, h = backend.namespace(snapshot.probabilities), snapshot.layer(layer).features
    s = snapshot.sample_weights
    roots = xp.reshape(h, (h.shape[0], 1, 1, -1)) * xp.sqrt(s)[:, None, None, None]
    return SecondMoment((Factor(roots, None),), s[:, None], snapshot.offsets)


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
    weights, (root,) = _weighted(snapshot, [snapshot.layer(layer).errors])
    return SecondMoment((Factor(root, None),), weights, snapshot.offsets, scored=True)


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
    weights, roots = _weighted(snapshot, [x.errors for x in chosen])
    pairs = zip(roots, chosen, strict=True)
    factors = tuple(Factor(root, x.features) for root, x in pairs)
    return SecondMoment(factors, weights, snapshot.offsets, scored=True)


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
    xp, s = backend.namespace(snapshot.probabilities), snapshot.sample_weights
    root, factors = xp.sqrt(s)[:, None, None, None], []
    for x in _layers(snapshot, layers):
        own = [x.errors[i:j, c : c + 1, ...] for c, i, j in classes_of(snapshot)]
        factors.append(Factor(backend.concatenate(own) * root, x.features))
    return SecondMoment(tuple(factors), s[:, None], snapshot.offsets)


def classes_of(x: Snapshot | SecondMoment) -> Iterator[tuple[int, int, int]]:
    """Yield (c, start, stop) for every class."""
    yield from zip(range(len(x.offsets)), x.offsets, x.offsets[1:], strict=False)


def score_reduced(moment: SecondMoment) -> tuple[tuple[Factor, ...], float]:
    r"""Return factors with C - 1 rows a sample in place of C, and the trace left out.

    Notes
    -----
    Theory: theory/curvature.md#C5; theory/levels.md#L3. With u_i = sqrt(p_i), a unit
    vector, every sample's rows X_i satisfy u_i'X_i = 0. The Householder reflection that
    takes u_i to -e_c (c the true class) then acts on them as :math:`Y_{c'} = X_{c'} -
    u_{c'} (1 + u_c)^{-1} X_c`, c' != c: no cancellation, C - 1 rows, the same second
    moment. In data with rounding errors the identity fails a little; what is left out
    is the second moment of u_i'X_i, positive semidefinite, of the returned trace.
    """
    xp, unit = backend.namespace(moment.weights), unit_weights(moment)
    reduced, dropped = [], []
    for f in moment.factors:
        scores = xp.sum(unit[:, :, None, None] * f.roots, axis=1, keepdims=True)
        dropped.append(Factor(scores, f.features))
        blocks = []
        for c, i, j in classes_of(moment):
            rows, u = f.roots[i:j, ...], unit[i:j, :, None, None]
            own = (scores[i:j, ...] + rows[:, c : c + 1, ...]) / (
                1 + u[:, c : c + 1, ...]
            )
            others = without(rows, c) - without(u, c) * own
            blocks.append(others)
        reduced.append(Factor(backend.concatenate(blocks), f.features))
    left_out = sum(backend.scalar(xp.sum(squares(f))) for f in dropped)
    return tuple(reduced), left_out


def unit_weights(moment: SecondMoment) -> Array:
    """Return u_i = sqrt(w_i) / ||sqrt(w_i)||, shape (N, K), e_1 for a zero weight."""
    xp, w = backend.namespace(moment.weights), moment.weights
    total = xp.sum(w, axis=1, keepdims=True)
    first = xp.astype(xp.arange(w.shape[1], device=backend.device(w)) == 0, w.dtype)
    safe = xp.where(total > 0, total, xp.ones_like(total))
    return xp.where(total > 0, xp.sqrt(w / safe), first[None, :])


def without(x: Array, c: int) -> Array:
    """Return x with entry c of axis 1 left out."""
    xp = backend.namespace(x)
    return xp.concat([x[:, :c, ...], x[:, c + 1 :, ...]], axis=1)


def _layers(snapshot: Snapshot, names: Sequence[str] | None) -> tuple[Layer, ...]:
    """Return the layers called `names`, or all."""
    return snapshot.layers if names is None else tuple(map(snapshot.layer, names))


def _weighted(snapshot: Snapshot, values: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Return w = s p, shape (N, C), and sqrt(w) times each array of errors."""
    xp = backend.namespace(snapshot.probabilities)
    s, p = snapshot.sample_weights, snapshot.probabilities
    root = xp.sqrt(s)[:, None] * xp.sqrt(p)  # the product s p could underflow
    return s[:, None] * p, [x * root[:, :, None, None] for x in values]


def _symmetric(x: Array) -> Array:
    """Return (x + x') / 2: symmetric to the bit."""
    return (x + backend.namespace(x).matrix_transpose(x)) / 2
