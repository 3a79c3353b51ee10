r"""Rows known through the derivative of a network: no layer has to be understood.

With f the logits and J_i their derivative in the parameters, the extended gradient of a
sample is g_{i,c'} = J_i'(p_i - e_{c'}). So one product J V, forward mode, gives all C
rows of every sample, x_{i,c'}'V = sqrt(s_i p_{ic'}) (p_i - e_{c'})'J_i V, and one J'S,
reverse mode, gives X'Z. Every parameter counts: norms, embeddings, attention, recurrent
cells, weights that are tied. A framework supplies the two products as a `Jacobian`.

Nothing bounds a framework's rounding a priori. The error of such rows is *measured*: by
how far <Z, X V> is from <X'Z, V>, two computations of one number, on random probes, and
by how far the same rows in another precision are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, checks, memory, rounding
from refspec.backend import Array
from refspec.classes import Snapshot, log_softmax
from refspec.coverage import Coverage, of_snapshot
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.layerwise import Layerwise, Source
from refspec.permuted import Permuted
from refspec.rows import Columns, Rows
from refspec.text import listed, visible

#: Of more modules than that a report shows the whole alone.
MODULES = 40
_PROBES = 12
FEWER = 4  # of long columns, beside rows that are factors
_HELD = 2**28  # bytes of explicit rows that may be held


class Jacobian(ABC):
    """The derivative J of the logits of N samples in P parameters, by its products.

    What a framework has to supply: forward mode gives `dot`, reverse mode `cross`.

    Notes
    -----
    Theory: theory/curvature.md#C8.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """N samples, C logits, P parameters."""

    @property
    @abstractmethod
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""

    @abstractmethod
    def dot(self, V: Array, i: int, j: int) -> Array:
        """Return J V of samples i to j, shape (j - i, C, m), for V of shape (P, m)."""

    @abstractmethod
    def cross(self, S: Array, i: int, j: int) -> Array:
        """Return sum_i J_i'S_i, shape (P, m), for S of shape (j - i, C, m)."""

    def explicit(self, i: int, j: int) -> Array:
        """Return J_i of samples i to j, (j - i, C, P), by C reverse products each."""
        xp, C = backend.namespace(self.like), self.shape[1]
        one = xp.eye(C, dtype=self.like.dtype, device=backend.device(self.like))
        parts = [self.cross(one[None, ...], k, k + 1) for k in range(i, j)]
        return backend.concatenate(xp.matrix_transpose(x)[None, ...] for x in parts)


@dataclass(frozen=True, slots=True, eq=False)
class Differentiated(Rows):
    """Rows sqrt(s p) (p - e_c')'J of a classifier, known through products with J.

    Parameters
    ----------
    jacobian : Jacobian
        Of all samples, shape (N, C, P).
    probabilities : Array, shape (n, C)
        Of the samples of these rows.
    roots : Array, shape (n, C)
        Square roots of the weights w = s p.
    first : int
        The number of their first sample in `jacobian`.
    lost : float
        The error made in forming the rows, as measured.
    known : str
        How it was measured.

    Notes
    -----
    Theory: theory/curvature.md#C8. Derivatives are taken relative to that of the most
    probable logit: nothing cancels in the rows of a sample that the network fits.
    """

    jacobian: Jacobian
    probabilities: Array
    roots: Array
    first: int = 0
    lost: float = 0.0
    known: str = "measured"

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        n, C, P = self.shape
        return f"Differentiated(N={n}, K={C}, P={P})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K = C cross classes, P columns."""
        n, C = self.roots.shape
        return int(n), int(C), self.jacobian.shape[2]

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.roots

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m): one forward product a column."""
        return self._weighed(self.jacobian.dot(V, self.first, self._last))

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m): one reverse product a column."""
        xp, own = self.xp, self._most_probable()
        z = self.roots[:, :, None] * Z
        seeds = self.probabilities[:, :, None] * xp.sum(z, axis=1, keepdims=True) - z
        # they sum to 0 over the logits: that of the most probable is minus the others
        seeds = xp.where(own, xp.zeros_like(seeds), seeds)
        seeds = xp.where(own, -xp.sum(seeds, axis=1, keepdims=True), seeds)
        return self.jacobian.cross(seeds, self.first, self._last)

    def part(self, i: int, j: int) -> Differentiated:
        """Return the rows of samples i to j."""
        p, roots = self.probabilities[i:j, :], self.roots[i:j, :]
        return replace(self, probabilities=p, roots=roots, first=self.first + i)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P); all rows of a sample share its J."""
        xp, (_, K, _) = self.xp, self.shape
        host = backend.to_host(index)
        samples, place = np.unique(host // K, return_inverse=True)
        rows = backend.concatenate(
            self.part(i, i + 1)._every() for i in samples.tolist()
        )
        return xp.take(rows, backend.from_host(place * K + host % K, self.like), axis=0)

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        n, K, P = self.shape
        step = backend.at_a_time(8 * K * P, self.like)
        for i in range(0, n, step):
            yield self.part(i, min(i + step, n))._every()

    def explicit(self, budget: float) -> Rows:
        """Return the same rows as an array where that fits in `budget`."""
        return held(self, budget)

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        _, K, P = self.shape
        return P + K + 8

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        n, K, P = self.shape
        return n * K + P + 2 * (K + 8)

    def forming(self) -> float:
        """Return ||fl(X) - X||_F, as measured."""
        return self.lost

    @property
    def _last(self) -> int:
        """The number of the sample after the last one."""
        return self.first + int(self.roots.shape[0])

    def _every(self) -> Array:
        """Return all rows explicitly, (n K, P)."""
        J = self.jacobian.explicit(self.first, self._last)
        return self.xp.reshape(self._weighed(J), (-1, self.shape[2]))

    def _weighed(self, T: Array) -> Array:
        """Return sqrt(w_c') (p - e_c')'T, shape (n, C, m), for T = J V."""
        xp, own = self.xp, self._most_probable()
        T = T - xp.sum(xp.where(own, T, xp.zeros_like(T)), axis=1, keepdims=True)
        mean = xp.sum(self.probabilities[:, :, None] * T, axis=1, keepdims=True)
        return self.roots[:, :, None] * (mean - T)

    def _most_probable(self) -> Array:
        """Whether a logit is its sample's most probable one, shape (n, C, 1)."""
        xp, p = self.xp, self.probabilities
        every = xp.arange(p.shape[1], device=backend.device(p))
        return (every[None, :] == xp.argmax(p, axis=1, keepdims=True))[:, :, None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NetworkMoment(SecondMoment):
    """The Fisher information of a network in parameters that are told by name.

    Parameters
    ----------
    blocks : tuple of (str, int)
        Names of the parameters and how many entries each has, in the order of columns:
        within a block that of the entries of its array, raveled.
    left_out : tuple of (str, int)
        The same for parameters of the network that are not among the columns.

    Notes
    -----
    The others are those of `SecondMoment`.
    """

    blocks: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def coverage(self) -> Coverage:
        """How much of the network it is of, by modules: ``str`` of it is a sentence."""
        return Coverage(by_module(self.blocks), by_module(self.left_out))

    def part(self, names: Sequence[str]) -> NetworkMoment:
        """Return that of some of its parameters: a diagonal block.

        Parameters
        ----------
        names : sequence of str
            Names of parameters, or of modules with all that they hold.

        Returns
        -------
        NetworkMoment
            The other parameters are left out.

        Raises
        ------
        TypeError, ValueError
            If a name is none of these.
        """
        advice = "put names in a list, as [moment.blocks[0][0]]"
        checks.expect_type("names", names, (list, tuple), advice)
        chosen: set[str] = set()
        for each in names:
            checks.expect_type("each of names", each, str, advice)
            found = {n for n, _ in self.blocks if n == each or n.startswith(f"{each}.")}
            if not found:
                raise ValueError(
                    "names must be of parameters or modules among "
                    f"{listed([n for n, _ in self.blocks])}, got {visible(each)!r}; "
                    "correct it"
                )
            chosen |= found
        if not chosen:
            raise ValueError("names must hold a name, got none; add one")
        inside, outside = (
            tuple(x for x in self.blocks if (x[0] in chosen) == flag)
            for flag in (True, False)
        )
        rows = self.factors_of(chosen)
        if rows is None:
            spans, at = [], 0
            for name, size in self.blocks:
                if name in chosen:
                    spans.append((at, at + size))
                at += size
            rows = held(Columns(self.rows, tuple(spans)), _HELD)
        left_out = (*self.left_out, *outside)
        return replace(self, rows=rows, blocks=inside, left_out=left_out)

    def factors_of(self, names: Collection[str]) -> Rows | None:
        """Return the rows of some blocks where each block has a factor, else None."""
        rows = self.rows
        if not isinstance(rows, Factors) or len(rows.layers) != len(self.blocks):
            return None
        return rows.only([name in names for name, _ in self.blocks])


def fits(shape: tuple[int, int, int]) -> bool:
    """Whether explicit rows, (N, K, P), may be held."""
    return 8 * math.prod(shape) <= memory.budget(_HELD, 4)


def held(rows: Rows, budget: float) -> Rows:
    """Return the same rows as an array where that fits in `budget`."""
    n, K, P = rows.shape
    if n * K * P * 8 > budget:
        return rows
    whole = rows.xp.reshape(backend.concatenate(rows.chunks()), (n, K, 1, P))
    return Factors((Factor(whole, None),), rows.forming(), rows.known)


def by_module(blocks: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Add up the parameters of each module."""
    found: dict[str, int] = {}
    for name, size in blocks:
        module = module_of(name)
        found[module] = found.get(module, 0) + size
    return found


def module_of(name: str) -> str:
    """Return the module that holds a parameter: its name without the last part."""
    return name.rpartition(".")[0] or name


def coverage_of(network: Snapshot | SecondMoment) -> Coverage:
    """Return how much of a network a snapshot or a moment is of."""
    if isinstance(network, Snapshot):
        return of_snapshot(network)
    if isinstance(network, NetworkMoment):
        return network.coverage
    return Coverage({"parameters": network.shape[1]}, None)


def moment(
    jacobian: Jacobian,
    logits: Array,
    labels: Array,
    *,
    sample_weights: Array | None = None,
    other: Jacobian | None = None,
    factors: Mapping[str, Factor] | None = None,
    places: Mapping[str, np.ndarray] | None = None,
    rest: Jacobian | None = None,
    source: Source | None = None,
    blocks: Sequence[tuple[str, int]] = (),
    left_out: Sequence[tuple[str, int]] = (),
    seed: int = 0,
) -> NetworkMoment:
    r"""Return the Fisher information of a network known through its derivative.

    Parameters
    ----------
    jacobian : Jacobian
        Of the logits of N samples in P parameters.
    logits : Array, shape (N, C)
        On the host or not; best in float64.
    labels : Array of int, shape (N,)
        Ascending: samples sorted by class.
    sample_weights : Array, shape (N,), optional
        Non-negative, sum 1; 1/N each by default.
    other : Jacobian, optional
        The same in another precision, float32 beside float64: to measure rounding.
    factors : mapping of str to Factor, optional
        Rows of some blocks, weighed, where these are known as factors.
    places : mapping of str to ndarray of int, optional
        Where in its block each column of a factor, (outputs, features), is, of those
        blocks where that is elsewhere: see `refspec.permuted`.
    rest : Jacobian, optional
        The derivative in the other blocks, if there are factors: its rows are formed.
    source : Source, optional
        Of factors of all blocks, where these do not fit together.
    blocks, left_out : sequence of (str, int)
        See `NetworkMoment`.
    seed : int
        Of the probes.

    Returns
    -------
    NetworkMoment
        :math:`\sum_i s_i J_i'(\operatorname{diag} p_i - p_i p_i') J_i`; its rows are
        formed where they are few.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If shapes do not fit, labels are not sorted, or J V and J'S are not products
        with one J.

    Notes
    -----
    Theory: theory/curvature.md#C8; theory/rounding.md#B6. Cost: 12 products of both
    kinds, and N C of the reverse one where rows are formed; beside factors 4 forward
    products, that are compared with theirs.

    Examples
    --------
    >>> import numpy as np
    >>> class Linear(Jacobian):  # logits W x, P = C a
    ...     def __init__(self, x, C):
    ...         self.like, self.shape = x, (len(x), C, C * x.shape[1])
    ...     like = shape = None
    ...     def dot(self, V, i, j):
    ...         W = V.reshape(self.shape[1], -1, V.shape[1])
    ...         return np.einsum("na,cam->ncm", self.like[i:j], W)
    ...     def cross(self, S, i, j):
    ...         W = np.einsum("na,ncm->cam", self.like[i:j], S)
    ...         return W.reshape(-1, S.shape[2])
    >>> x = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    >>> moment(Linear(x, 2), np.zeros((2, 2)), [0, 1]).matrix().diagonal()
    array([0.125, 0.125, 0.125, 0.125])
    """
    advice = "derive a class from refspec.differentiated.Jacobian"
    checks.expect_type("jacobian", jacobian, Jacobian, advice)
    checks.expect_type("other", other, (Jacobian, type(None)), advice)
    N, C, _ = jacobian.shape
    z = checks.host_array("logits", logits, "(N, C)", sizes={"N": N, "C": C})
    _, offsets = checks.sorted_labels(labels, N, C)
    s = np.full(N, 1 / N) if sample_weights is None else sample_weights
    s = checks.host_array("sample_weights", s, "(N,)", sizes={"N": N}, nonnegative=True)
    checks.expect_sum_one("sample_weights", s, 0)
    if other is not None and other.shape != jacobian.shape:
        raise ValueError(
            f"other must have the shape (N, C, P) = {jacobian.shape} of jacobian, got "
            f"{other.shape}; give the same samples and parameters"
        )
    for name, given in (("blocks", blocks), ("left_out", left_out)):
        checks.expect_type(name, given, Sequence, "give pairs (name, size)")
    rows = _rows(jacobian, z, s)
    beside = None if other is None else _rows(other, z, s)
    known = "measured" if other is not None else "measured between two modes only"
    found: Rows
    if factors:
        formed = None if rest is None else _rows(rest, z, s)
        made = side_by_side(factors, formed, blocks, places or {})
        lost = apart(made, rows, beside, seed)
        found = replace(made, lost=made.forming() + lost, how=known)
    elif source is not None:
        gap, lost = measured(rows, beside, seed, FEWER)
        others = None if rest is None else held(_rows(rest, z, s), math.inf)
        rows = replace(rows, lost=gap + lost, known=known)
        found = Layerwise(rows, source, lost, others)
    else:
        lost = sum(measured(rows, beside, seed))
        found = replace(rows, lost=lost, known=known).explicit(_HELD)
    return NetworkMoment(
        found,
        rows.roots * rows.roots,
        offsets,
        scored=True,
        blocks=tuple(blocks),
        left_out=tuple(left_out),
    )


def measured(
    rows: Rows, other: Rows | None = None, seed: int = 0, q: int = _PROBES
) -> tuple[float, float]:
    """Bound the error of rows as measured on q probes; refuse products of two X.

    How far X of `dot` and of `cross` are apart, and how far X is from the other's, as
    far as that is due to this dtype. Theory: theory/rounding.md#B6.
    """
    N, K, P = rows.shape
    u = rounding.unit_roundoff(rows.like)
    V, Z = probes(seed, P, q), probes(seed + 1, N * K, q)
    XV = product_beside(rows.dot, V, rows.like)
    XZ = product_beside(rows.cross, Z.reshape(N, K, -1), rows.like)
    gap = Z.T @ XV.reshape(N * K, -1) - XZ.T @ V
    apart = gap_radius(gap, XV, u, "J V and J'S")
    return apart, between_precisions(XV, rows, other, V)


def side_by_side(
    factors: Mapping[str, Factor],
    rest: Rows | None,
    blocks: Sequence[tuple[str, int]],
    places: Mapping[str, np.ndarray],
) -> Factors:
    """Return a factor for each block, those of the rest from rows that are formed."""
    layers, formed, at = [], None, 0
    if rest is not None:
        every = rest.xp.reshape(backend.concatenate(rest.chunks()), (*rest.shape, 1))
        formed = rest.xp.permute_dims(every, (0, 1, 3, 2))
    for name, size in blocks:
        if name in factors:
            layers.append(factors[name])
        elif formed is not None:
            layers.append(Factor(formed[..., at : at + size], None))
            at += size
    if not places:
        return Factors(tuple(layers))
    return Permuted(tuple(layers), places=tuple(places.get(n) for n, _ in blocks))


def apart(rows: Rows, same: Rows, other: Rows | None, seed: int) -> float:
    """Bound how far rows are from those that another way gives; refuse what is not X.

    As `measured`, but by products X V alone, of two ways that share no derivative.
    """
    V = probes(seed, rows.shape[2], FEWER)
    there = backend.beside(V, rows.like)
    images = (backend.to_host(x.dot(there)) for x in (rows, same))
    XV, image = (x.astype(np.float64) for x in images)
    del there  # the other precision has its own beside V
    u = rounding.unit_roundoff(rows.like)
    lost = images_radius(XV, image, u, "factors and J V")
    return lost + between_precisions(image, rows, other, V)


def between_precisions(
    image: np.ndarray, rows: Rows, other: Rows | None, V: np.ndarray
) -> float:
    """Bound how far rows, of which `image` is X V, are from the other precision's.

    As far as that is due to their own; 0 if there is no other.
    """
    if other is None:
        return 0.0
    q = V.shape[1]
    away = float(np.linalg.norm(image - product_beside(other.dot, V, other.like)))
    away = rounding.probed_frobenius(away * away, q)
    # the coarser of the two makes the difference, in proportion to its roundoff
    u, beside = (rounding.unit_roundoff(x.like) for x in (rows, other))
    return away * min(1.0, u / beside)


def probes(seed: int, n: int, columns: int = _PROBES) -> np.ndarray:
    """Return Gaussian probes (n, columns), the same in both precisions."""
    rng = np.random.default_rng([seed, n])
    return rng.standard_normal((n, columns), np.float32)


def product_beside(
    product: Callable[[Array], Array], x: np.ndarray, like: Array
) -> np.ndarray:
    """Return a product with numbers of the host on the host, in float64."""
    return backend.to_host(product(backend.beside(x, like))).astype(np.float64)


def gap_radius(gap: np.ndarray, image: np.ndarray, u: float, what: str) -> float:
    """Bound ||X - X~||_F from Z'(X - X~)V; refuse what is half of the digits of X V.

    Theory: theory/rounding.md#B6.
    """
    q = gap.shape[1]
    off, size = float(np.linalg.norm(gap)), float(np.linalg.norm(image))
    expect_one_matrix(off, size, u, q, what)
    once = rounding.probed_frobenius(off * off, q)
    return rounding.probed_frobenius(once * once, q)


def images_radius(one: np.ndarray, two: np.ndarray, u: float, what: str) -> float:
    """Bound ||A - B||_F from A V and B V; refuse what differs by half of the digits.

    Theory: theory/rounding.md#B6.
    """
    off, size, q = np.linalg.norm(one - two), np.linalg.norm(one), one.shape[-1]
    expect_one_matrix(float(off), float(size), u, q, what)
    return rounding.probed_frobenius(float(off) ** 2, q)


def expect_one_matrix(off: float, size: float, u: float, q: int, what: str) -> None:
    """Refuse what differs by half of the digits; unit variance: q^2 gaps of ||E||_F."""
    if not off <= math.sqrt(u * q) * size:
        raise ValueError(
            f"{what} must be products with one matrix, got bilinear forms that differ "
            f"by {off:.2g} in norm, the image of the probes {size:.2g}; look for "
            "samples that are mixed, and for a derivative that one mode gets wrong"
        )


def _rows(jacobian: Jacobian, logits: np.ndarray, s: np.ndarray) -> Differentiated:
    """Return the rows of a classifier of these logits, in the dtype of its J."""
    logs = log_softmax(logits)
    roots = np.sqrt(s)[:, None] * np.exp(logs / 2)  # the product s p could underflow
    p, roots = (backend.beside(x, jacobian.like) for x in (np.exp(logs), roots))
    return Differentiated(jacobian, p, roots)
