"""Every mistake the oracle names: how it is made from a right answer, and its name.

A row makes the mistake with no code of refspec between: a matrix by einsum, eigenvalues
by LAPACK, a quadrature by thirty lines of Lanczos. `OUTSIDE` has mistakes that are none
of the usual ones: nobody may give them a name.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import scipy.linalg

from refspec import differentiated, hessian, models
from refspec.testing import (
    assert_density,
    assert_levels,
    assert_operator,
    assert_spectrum,
)
from support.operators import apart, blocks, without

COUNTS = (5, 2, 4, 3)
C, N = len(COUNTS), sum(COUNTS)
LABELS = np.repeat(np.arange(C), COUNTS)
SEEDS = range(3)
S = np.full(N, 1 / N)


class Seen:
    """A network as somebody's library sees it: gradients, matrices, no refspec."""

    layers = ()
    model = None

    def hot(self):
        return np.eye(C)[LABELS]

    def fisher(self, s=S, labels=None, gradients=None):
        g = self.gradients if gradients is None else gradients
        w = s[:, None] * (self.p if labels is None else labels)
        return np.einsum("nc,ncp,ncq->pq", w, g, g)

    def ask(self, assertion, found, **how):
        return assertion(found, self.expected, **how)

    def drawn(self, M):
        p = self.p / self.p.sum(axis=1, keepdims=True)
        return np.array([self.rng.multinomial(M, x) / M for x in p])

    def biases(self):
        """Which parameters are biases, by part or by name."""
        return np.array([(y or x).endswith("bias") for x, y in self.parts])

    def mask(self, *parts):
        """Which parameters are of some (layer, part)."""
        found = np.zeros(len(self.parts), dtype=bool)
        for layer, part in parts:
            found |= np.array([x == layer and y in ("", part) for x, y in self.parts])
        return found


class Network(Seen):
    """An MLP, a CNN with a stride, or one with batch norm, of refspec.models."""

    def __init__(self, kind, seed, sharp=1.0):
        self.rng = np.random.default_rng([seed, len(kind)])
        self.net, self.X = network(kind, self.rng, sharp)
        self.expected = models.snapshot(self.net, self.X, LABELS)
        self.p = self.expected.probabilities
        self.layers = {x.name: (x.features, x.errors) for x in self.expected.layers}
        parts, each = [], []
        for name, (h, d) in self.layers.items():
            g = np.einsum("nctb,nta->ncba", d, h)
            each.append(g.reshape(*g.shape[:2], -1))
            b, a = d.shape[3], h.shape[2]
            parts += [(name, "bias" if k == a - 1 else "weight") for k in range(a)] * b
        self.gradients, self.parts = np.concatenate(each, axis=2), parts

    def hessian(self, s=S, labels=LABELS):
        return np.asarray(hessian.hessian(self.net, self.X, labels, sample_weights=s))

    def factors(self, name, s=S, t=S, labels=None):
        h, d = self.layers[name]
        w = s[:, None] * (self.p if labels is None else labels)
        H = np.einsum("n,nta,ntb->ab", t, h, h) / h.shape[1]
        return np.einsum("nc,ncta,nctb->ab", w, d, d), H

    def kfac(self, **how):
        return blocks([np.kron(*self.factors(x, **how)) for x in self.layers])

    def moved(self, order):
        """Where refspec's parameters are in another order."""
        places, start = [], 0
        for h, d in self.layers.values():
            b, a = d.shape[3], h.shape[2]
            j, k = np.arange(b)[:, None], np.arange(a)[None, :]
            if order == "torch":
                place = np.where(k < a - 1, j * (a - 1) + k, b * (a - 1) + j)
            elif order == "jax":
                place = np.where(k < a - 1, b + k * b + j, j)
            else:
                place = k * b + j
            places.append(start + place.ravel())
            start += a * b
        return np.concatenate(places)

    def backwards(self):
        sizes = [h.shape[2] * d.shape[3] for h, d in self.layers.values()]
        return turned(sizes)


class Moment(Seen):
    """A residual network with a norm, differentiated by complex steps."""

    SHAPES = MappingProxyType(
        {
            "in.weight": (5, 3),
            "in.bias": (5,),
            "norm.gain": (5,),
            "mix.weight": (5, 5),
            "out.weight": (C, 5),
            "out.bias": (C,),
        }
    )

    def __init__(self, kind, seed):
        self.rng = np.random.default_rng([seed, len(kind)])
        X = self.rng.normal(size=(N, 3))
        sizes = [int(np.prod(x)) for x in self.SHAPES.values()]
        vector = self.rng.normal(size=sum(sizes))
        J = np.stack(
            [
                logits(vector + 1e-40j * e, X, self.SHAPES).imag * 1e40
                for e in np.eye(len(vector))
            ],
            axis=2,
        )
        f = logits(vector.astype(complex), X, self.SHAPES).real
        f = f - f.max(axis=1, keepdims=True)
        self.p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        self.J = J
        self.gradients = np.einsum("nc,ncp->np", self.p, J)[:, None, :] - J
        self.layers = dict.fromkeys(self.SHAPES)
        self.blocks = tuple(zip(self.SHAPES, sizes, strict=True))
        self.parts = [(name, "") for name, size in self.blocks for _ in range(size)]
        self.expected = differentiated.moment(
            Explicit(J), f, LABELS, blocks=self.blocks
        )

    def backwards(self):
        return turned([size for _, size in self.blocks])


class Explicit(differentiated.Jacobian):
    """A derivative that is an array (N, C, P)."""

    like = shape = None

    def __init__(self, J):
        self.like, self.shape = J, J.shape

    def dot(self, V, i, j):
        return self.like[i:j] @ V

    def cross(self, S, i, j):
        return np.einsum("ncp,ncm->pm", self.like[i:j], S)


def logits(vector, X, shapes):
    parts, start = [], 0
    for shape in shapes.values():
        size = int(np.prod(shape))
        parts.append(vector[start : start + size].reshape(shape))
        start += size
    W, b, gain, mix, V, c = parts
    h = np.tanh(X @ W.T + b)
    h = gain * h / np.sqrt(np.mean(h * h, axis=1, keepdims=True))
    h = h + np.tanh(h @ mix.T)
    return h @ V.T + c


def network(kind, rng, sharp):
    if kind == "mlp":
        net, X = models.mlp([3, 5, C], "tanh", rng=rng), rng.normal(size=(N, 3))
    else:
        conv = {"op": "conv2d", "name": "conv", "weight": "W", "bias": "b"}
        conv |= {"stride": [2, 2], "padding": [1, 1]}
        norm = {"op": "batch_norm", "mean": "m", "variance": "v", "epsilon": 2.0**-10}
        steps = [conv, {"op": "tanh"}, {"op": "flatten"}]
        if kind == "norm":
            steps.insert(1, norm | {"weight": "g", "bias": "o"})
        steps += [{"op": "linear", "name": "fc", "weight": "V", "bias": "c"}]
        weights = {
            "W": rng.normal(size=(2, 1, 3, 3)),
            "b": rng.normal(size=2),
            "V": rng.normal(size=(C, 18)),
            "c": rng.normal(size=C),
            "m": rng.normal(size=2),
            "v": rng.uniform(1, 2, size=2),
            "g": rng.normal(size=2),
            "o": rng.normal(size=2),
        }
        used = {v for x in steps for v in x.values() if isinstance(v, str)}
        net = models.Network(steps, {k: v for k, v in weights.items() if k in used})
        X = rng.normal(size=(N, 1, 6, 6))
    vector = models.flatten(net)
    vector = vector + 0.3 * rng.normal(size=vector.shape)
    last = models.layer_shapes(net)[list(models.layer_shapes(net))[-1]]
    vector[-last[0] * last[1] :] *= sharp
    return models.unflatten(net, vector), X


def turned(sizes):
    """Places of blocks put in the reverse order."""
    ends = np.cumsum([0, *sizes])
    index = [np.arange(ends[k], ends[k + 1]) for k in range(len(sizes))][::-1]
    return np.concatenate(index)


@functools.cache
def case(kind, seed):
    """Return a case by its kind: mlp, cnn, norm, sharp, or moment."""
    if kind == "moment":
        return Moment(kind, seed)
    return Network(kind, seed) if kind != "sharp" else Network("mlp", seed, sharp=9.0)


@dataclass(frozen=True)
class Row:
    """A mistake: its name, how it is made and asked, and of which networks."""

    told: str
    make: Callable
    ask: Callable = assert_operator
    kinds: tuple = ("mlp", "cnn", "moment")
    how: dict = field(default_factory=dict)


def answer(row, seen):
    """Ask about the mistake: raises AssertionError, or it is not found."""
    found = row.make(seen)
    how = {k: v(seen) if callable(v) else v for k, v in row.how.items()}
    if isinstance(found, tuple):
        *found, more = found if isinstance(found[-1], dict) else (*found, {})
        return row.ask(*found, seen.expected, **(how | more))
    return row.ask(found, seen.expected, **how)


NETWORKS, KFAC = ("mlp", "cnn"), {"of": "kfac"}
WEIGHTS = np.array([1.0, 3.0, 0.5, 2.0])[LABELS]
LAST = np.where(np.isin(np.arange(N), (0, 3, 6, 11)), 1 / (3 * 4), 1 / (3 * 5))
TWICE = np.where(np.isin(np.arange(N), (1, 2, 8)), 2.0, 1.0) / (N + 3)
DROPPED = np.where(np.isin(np.arange(N), (0, 6)), 0.0, 1 / (N - 2))
BALANCED = 1 / (C * np.array(COUNTS))[LABELS]


def first(seen):
    return next(iter(seen.layers))


def of_first(seen):
    """Which parameters are of the first layer, or the first parameter."""
    return np.array([x == first(seen) for x, _ in seen.parts])


def smoothed(seen, e=0.1):
    q = (1 - e) * seen.hot() + e / C
    g = np.einsum("nc,ncp->np", q, seen.gradients)
    return np.einsum("n,np,nq->pq", S, g, g)


def smoothed_hessian(seen, e=0.1):
    every = [seen.hessian(labels=np.full(N, c)) for c in range(C)]
    return (1 - e) * seen.hessian() + e / C * sum(every)


def damped_factors(seen, a=0.3, b=0.02):
    pairs = [seen.factors(x) for x in seen.layers]
    return blocks(
        [np.kron(A + a * np.eye(len(A)), B + b * np.eye(len(B))) for A, B in pairs]
    )


def bent_factor(seen, bend):
    """KFAC with the errors' factors changed: no labels would make them."""
    pairs = [seen.factors(x) for x in seen.layers]
    return blocks([np.kron(bend(A), B) for A, B in pairs])


def warm(seen, power=0.7):
    """Probabilities at another temperature: labels that no drawing makes."""
    q = seen.p**power
    return q / q.sum(axis=1, keepdims=True)


def root(A):
    values, Q = np.linalg.eigh(A)
    return Q * np.sqrt(np.abs(values)) @ Q.T


def zeros_padded(seen, k=3):
    blank = models.snapshot(seen.net, np.zeros_like(seen.X[:C]), np.arange(C))
    g = np.concatenate(
        [
            np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(C, C, -1)
            for x in blank.layers
        ],
        axis=2,
    )[0]
    pad = np.einsum("c,cp,cq->pq", blank.probabilities[0], g, g)
    return (N * seen.fisher() + k * pad) / (N + k)


def noisy(seen):
    """A Fisher that is another one with every call: dropout."""
    rng = np.random.default_rng(5)

    def product(v):
        keep = rng.integers(0, 2, size=N) * 2.0
        return seen.fisher(S * keep) @ v

    return product


def trained(seen, constant=False):
    """Batch norm by the batch's own statistics, the Jacobian by complex steps."""
    P = len(seen.parts)

    def f(vector):
        out, at, x = {}, 0, seen.X.astype(complex)
        for name, (h, d) in seen.layers.items():
            b, a = d.shape[3], h.shape[2]
            out[name] = vector[at : at + a * b].reshape(b, a)
            at += a * b
        wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        cut = [
            wide[:, 0, i : i + 5 : 2, j : j + 5 : 2] for i in range(3) for j in range(3)
        ]
        patches = np.stack(cut, axis=-1).reshape(N, -1, 9)
        z = patches @ out["conv"][:, :9].T + out["conv"][:, 9]
        if constant:
            mean, var = still.mean((0, 1)), still.var((0, 1))
        else:
            mean = z.mean((0, 1))
            var = ((z - mean) ** 2).mean((0, 1))
        z = (z - mean) / np.sqrt(var + 2.0**-10)
        w = seen.net.parameters
        z = np.tanh(z * w["g"] + w["o"])
        flat = np.swapaxes(z, 1, 2).reshape(N, -1)
        return flat @ out["fc"][:, :-1].T + out["fc"][:, -1]

    conv = seen.layers["conv"][0][:, :, :9]
    theta = models.flatten(seen.net)
    still = conv @ theta[:20].reshape(2, 10)[:, :9].T + theta[:20].reshape(2, 10)[:, 9]
    J = np.stack([f(theta + 1e-40j * e).imag * 1e40 for e in np.eye(P)], axis=2)
    z = f(theta.astype(complex)).real
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    A = p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]
    return np.einsum("n,ncp,ncd,ndq->pq", S, J, A, J)


def summed(seen):
    """BackPACK's: errors and features summed over positions, biases for themselves."""
    parts = []
    for h, d in seen.layers.values():
        d = d.sum(axis=2)
        D = np.einsum("n,nc,nca,ncb->ab", S, seen.p, d, d)
        H = np.einsum("n,nta,ntb->ab", S, h, h)
        H = scipy.linalg.block_diag(H[:-1, :-1], 1.0)
        parts.append(np.kron(D, H))
    return blocks(parts)


def unstrided(seen):
    """KFAC with a convolution's patches at stride 1."""
    wide = np.pad(seen.X[:, 0], ((0, 0), (1, 1), (1, 1)))
    cut = [wide[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
    h = np.stack(cut, axis=-1).reshape(N, 36, 9)
    h = np.concatenate([h, np.ones_like(h[..., :1])], axis=2)
    H = np.einsum("n,nta,ntb->ab", S, h, h) / 36
    return blocks([np.kron(seen.factors("conv")[0], H), np.kron(*seen.factors("fc"))])


OPERATORS = [
    Row("damping", lambda c: c.fisher() + 0.01 * np.eye(len(c.parts))),
    Row(
        "damping",
        lambda c: c.kfac() + 0.01 * np.eye(len(c.parts)),
        kinds=NETWORKS,
        how=KFAC,
    ),
    Row(
        "damping",
        lambda c: c.hessian() + 0.01 * np.eye(len(c.parts)),
        kinds=NETWORKS,
        how={"of": "hessian"},
    ),
    Row("damping of the factors", damped_factors, kinds=NETWORKS, how=KFAC),
    Row(
        "weight decay",
        lambda c: c.fisher() + 0.01 * np.diag(1.0 - c.biases()),
    ),
    Row(
        "damping in part",
        lambda c: c.fisher() + 0.01 * np.diag(1.0 * of_first(c)),
    ),
    Row(
        "damping by parameter",
        lambda c: c.fisher() + np.diag(0.01 + 0.02 * of_first(c)),
    ),
    Row("class weights", lambda c: c.fisher(S * WEIGHTS)),
    Row(
        "class weights",
        lambda c: c.hessian(S * WEIGHTS),
        kinds=NETWORKS,
        how={"of": "hessian"},
    ),
    Row("class weights", lambda c: c.kfac(s=S * WEIGHTS), kinds=NETWORKS, how=KFAC),
    Row(
        "class weights",
        lambda c: c.fisher(S * WEIGHTS, c.hot()),
        how={"of": "empirical_fisher"},
    ),
    Row("classes weighed alike", lambda c: c.fisher(BALANCED)),
    Row(
        "classes weighed alike",
        lambda c: c.kfac(s=BALANCED, t=BALANCED),
        kinds=NETWORKS,
        how=KFAC,
    ),
    Row("label smoothing", smoothed, how={"of": "empirical_fisher"}),
    Row("label smoothing", smoothed_hessian, kinds=NETWORKS, how={"of": "hessian"}),
    Row(
        "Monte-Carlo labels",
        lambda c: c.fisher(labels=c.drawn(1)),
        kinds=("mlp", "cnn", "moment", "sharp"),
    ),
    Row(
        "Monte-Carlo labels",
        lambda c: c.fisher(labels=c.drawn(3)),
        kinds=("mlp", "cnn", "moment", "sharp"),
    ),
    Row(
        "Monte-Carlo labels",
        lambda c: c.kfac(labels=c.drawn(1)),
        kinds=("mlp", "cnn"),
        how=KFAC,
    ),
    Row(
        "Monte-Carlo labels",
        lambda c: c.kfac(labels=c.drawn(3)),
        kinds=("mlp", "cnn", "sharp"),
        how=KFAC,
    ),
    Row("errors' factor", lambda c: bent_factor(c, np.abs), kinds=NETWORKS, how=KFAC),
    Row("errors' factor", lambda c: bent_factor(c, root), kinds=NETWORKS, how=KFAC),
    Row("errors' factor", lambda c: c.kfac(labels=warm(c)), kinds=("cnn",), how=KFAC),
    Row("train-mode batch norm", trained, kinds=("norm",)),
    Row(
        "train-mode batch norm",
        functools.partial(trained, constant=True),
        kinds=("norm",),
    ),
    Row("not deterministic", noisy),
    Row("uneven last batch", lambda c: c.fisher(LAST)),
    Row(
        "uneven last batch",
        lambda c: c.hessian(LAST),
        kinds=NETWORKS,
        how={"of": "hessian"},
    ),
    Row("samples missing", lambda c: c.fisher(DROPPED)),
    Row("padding", lambda c: c.fisher() * N / (N + 2)),
    Row("padding", lambda c: c.fisher(TWICE)),
    Row("padding", zeros_padded, kinds=NETWORKS),
    Row(
        "frozen layer",
        lambda c: without(c.fisher(), c.mask((first(c), "weight"), (first(c), "bias"))),
        kinds=NETWORKS,
    ),
    Row(
        "frozen parameter", lambda c: without(c.fisher(), c.mask((first(c), "weight")))
    ),
    Row(
        "frozen parameter",
        lambda c: without(c.kfac(), c.mask((first(c), "bias"))),
        kinds=NETWORKS,
        how=KFAC,
    ),
    Row(
        "missing parameter",
        lambda c: c.fisher()[
            np.ix_(~c.mask((first(c), "weight")), ~c.mask((first(c), "weight")))
        ],
    ),
    Row("positions summed, bias apart", summed, kinds=("cnn",), how=KFAC),
    Row("stride", unstrided, kinds=("cnn",), how=KFAC),
    Row("Hessian", lambda c: c.hessian(), kinds=NETWORKS),
    Row("Gauss-Newton", lambda c: c.fisher(), kinds=NETWORKS, how={"of": "hessian"}),
    Row(
        "bias apart",
        lambda c: apart(c.fisher(), c.biases()),
        kinds=NETWORKS,
    ),
    Row(
        "bias apart",
        lambda c: apart(c.kfac(), c.biases()),
        kinds=NETWORKS,
        how=KFAC,
    ),
    Row("layer order", lambda c: c.fisher()[np.ix_(c.backwards(), c.backwards())]),
    Row(
        "order torch", lambda c: reordered(c.fisher(), c.moved("torch")), kinds=NETWORKS
    ),
    Row(
        "order column_stacked",
        lambda c: reordered(c.kfac(), c.moved("stacked")),
        kinds=NETWORKS,
        how=KFAC,
    ),
    Row("empirical Fisher", lambda c: c.fisher(labels=c.hot())),
    Row("uniform labels", lambda c: c.fisher(labels=np.full((N, C), 1 / C))),
    Row("factor N", lambda c: N * c.fisher()),
    Row("factor 1/C", lambda c: c.fisher() / C),
    Row("sign", lambda c: -c.fisher()),
]


def reordered(A, places):
    out = np.empty_like(A)
    out[np.ix_(places, places)] = A
    return out


def eigenvalues(A):
    return np.linalg.eigvalsh((A + A.T) / 2)[::-1]


def by_magnitude(A, r=6):
    every = eigenvalues(A)
    return every[np.argsort(-np.abs(every))[:r]]


def unconverged(seen, k=7, r=5):
    """Ritz values and vectors of k Lanczos steps: the first have arrived."""
    A = seen.fisher()
    V = np.linalg.eigh(A)[1]
    # a start vector that has next to nothing of the later ones
    z = V[:, ::-1] @ (4.0 ** -np.arange(len(A)) * (np.arange(len(A)) < k + 3))
    Q = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ z for j in range(k)], 1))[
        0
    ]
    theta, U = np.linalg.eigh(Q.T @ A @ Q)
    return theta[::-1][:r], (Q @ U)[:, ::-1][:, :r]


def stopped(seen):
    """Power iteration with deflation that takes a change of sign for convergence.

    What dominates is negative once the positive ones that are larger are taken out.
    """
    A = seen.hessian()
    values, V = np.linalg.eigh(A)
    values, V = values[::-1], V[:, ::-1]
    j = int(np.sum(values > -values[-1]))
    rest = A - V[:, :j] * values[:j] @ V[:, :j].T
    v = V[:, j] + 0.3 * V[:, -1]
    while v @ rest @ v > 0:
        v = rest @ v / np.linalg.norm(rest @ v)
    return np.append(values[:j], v @ rest @ v), np.column_stack([V[:, :j], v])


def at(seen):
    return int(np.random.default_rng(len(seen.parts)).integers(1, 5))


def ghost(seen):
    every = eigenvalues(seen.fisher())
    return np.sort(np.append(every[:6], every[at(seen)]))[::-1]


def ghost_vectors(seen):
    V = np.linalg.eigh(seen.fisher())[1][:, ::-1]
    index = np.sort(np.append(np.arange(6), at(seen)))
    return V[:, index]


SPECTRA = [
    Row(
        "largest by magnitude",
        lambda c: by_magnitude(c.hessian()),
        assert_spectrum,
        NETWORKS,
        {"of": "hessian"},
    ),
    Row(
        "signs lost",
        lambda c: np.abs(by_magnitude(c.hessian())),
        assert_spectrum,
        NETWORKS,
        {"of": "hessian"},
    ),
    Row("smallest", lambda c: eigenvalues(c.fisher())[-6:], assert_spectrum),
    Row(
        "missed",
        lambda c: np.delete(eigenvalues(c.fisher())[:7], at(c)),
        assert_spectrum,
    ),
    Row("ghost", ghost, assert_spectrum),
    Row("ghost", ghost, assert_spectrum, how={"vectors": ghost_vectors}),
    Row("not converged", lambda c: unconverged(c)[0], assert_spectrum),
    Row(
        "not converged",
        lambda c: unconverged(c)[0],
        assert_spectrum,
        how={"vectors": lambda c: unconverged(c)[1]},
    ),
    Row(
        "stopped at a sign change",
        lambda c: stopped(c)[0],
        assert_spectrum,
        NETWORKS,
        {"of": "hessian", "vectors": lambda c: stopped(c)[1]},
    ),
    Row(
        "float32",
        lambda c: eigenvalues(c.fisher().astype(np.float32))[:6].astype(float),
        assert_spectrum,
    ),
    Row("shift", lambda c: eigenvalues(c.fisher())[:6] + 0.05, assert_spectrum),
    Row(
        "deflation left in",
        lambda c: np.append(eigenvalues(c.fisher())[2:6], [0.0, 0.0]),
        assert_spectrum,
    ),
    Row(
        "square roots", lambda c: np.sqrt(eigenvalues(c.fisher())[:6]), assert_spectrum
    ),
    Row("factor N", lambda c: N * eigenvalues(c.fisher())[:6], assert_spectrum),
    Row("sign", lambda c: -eigenvalues(c.fisher())[:6], assert_spectrum),
    Row("sign", lambda c: -eigenvalues(c.fisher())[::-1], assert_spectrum),
]


def lanczos(A, k, starts, full=False):
    """Nodes (n, k), eigenvectors (n, k, k) of k plain steps from each column."""
    nodes, vectors = [], []
    for z in starts.T:
        q, before, beta, T, basis = z / np.linalg.norm(z), 0, 0, [], []
        for _ in range(k):
            basis.append(q)
            v = A @ q - beta * before
            alpha = q @ v
            v = v - alpha * q
            for x in basis * (2 * full):
                v = v - x * (x @ v)
            before, beta = q, np.linalg.norm(v)
            q = v / beta
            T.append((alpha, beta))
        a, b = np.array(T).T
        theta, U = scipy.linalg.eigh_tridiagonal(a, b[:-1])
        nodes.append(theta)
        vectors.append(U)
    return np.array(nodes), np.array(vectors)


@functools.lru_cache(8)
def quadrature(seen, k=14, n=400, draws="gaussian", full=False):
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((len(seen.parts), n))
    Z = np.sign(Z) if draws == "rademacher" else Z
    x, U = lanczos(seen.fisher(), k, Z, full)
    return x, U, Z


@dataclass(frozen=True)
class Rules:
    """Nodes x (n, k), eigenvectors U (n, k, k), squared first components w, probes."""

    x: np.ndarray
    U: np.ndarray
    Z: np.ndarray

    @property
    def w(self):
        return self.U[:, 0] ** 2


def ritz_values(seen, k=14):
    """Of a Hessian: nodes of both signs, in the place of their weights too."""
    A = seen.hessian()
    Z = np.random.default_rng(3).standard_normal((len(A), 4))
    x = lanczos(A, k, Z)[0]
    return x, x


def rules(change):
    return lambda seen: change(Rules(*quadrature(seen)))


def smooth_rules(x, w, top, h):
    """The density of quadratures (n, k) under a Gaussian of width h, on a grid."""
    grid = np.linspace(-8 * h, top + 8 * h, max(400, int(4 * (top / h + 16))))
    return grid, density_at(x, w, grid, h)


def density_at(x, w, grid, h):
    z = (grid[:, None, None] - x) / h
    kernel = np.exp(-(z**2) / 2)
    return np.sum(kernel * w, axis=(1, 2)) / (h * np.sqrt(2 * np.pi) * len(x))


def smooth(seen, n=400, width=None, seen_width=None, said=400, k=24, bent=1.0):
    x, U, _ = quadrature(seen, k, 400)
    x, w = np.abs(x[:n]) ** bent, U[:n, 0] ** 2
    top = float(eigenvalues(seen.fisher())[0])
    h = top / 40 if width is None else width * top
    grid, density = smooth_rules(x, w, top, h)
    width = h if seen_width is None else seen_width * h
    return grid, density, {"width": width, "steps": k, "probes": said}


def times(found, s):
    grid, density, how = found
    return grid, s * density, how


DENSITIES = [
    Row("weights not squared", rules(lambda q: (q.x, np.abs(q.U[:, 0])))),
    Row("weights not squared", rules(lambda q: (q.x, q.U[:, 0]))),
    Row("weights squared twice", rules(lambda q: (q.x, q.U[:, 0] ** 4))),
    Row("last components", rules(lambda q: (q.x, q.U[:, -1] ** 2))),
    Row("other weights", rules(lambda q: (q.x, q.U[:, :, 0] ** 2, {"vectors": q.Z}))),
    Row("weights in reverse", rules(lambda q: (q.x, q.U[:, 0, ::-1] ** 2))),
    Row("Ritz values as weights", rules(lambda q: (q.x, np.abs(q.x)))),
    Row(
        "Ritz values as weights",
        lambda c: ritz_values(c),
        how={"of": "hessian"},
        kinds=NETWORKS,
    ),
    Row("equal weights", rules(lambda q: (q.x, np.full_like(q.x, 1 / 14)))),
    Row("weights of sum P", rules(lambda q: (q.x, len(q.Z) * q.w))),
    Row(
        "weights of sum |z|^2",
        rules(lambda q: (q.x, q.w * np.sum(q.Z * q.Z, 0)[:, None])),
    ),
    Row("weights of sum 1/n", rules(lambda q: (q.x, q.w / len(q.x)))),
    Row(
        "probes repeated",
        rules(lambda q: (q.x[[0] * 400], q.U[[0] * 400, 0] ** 2)),
    ),
    Row("equal weights", lambda c: ghosts(c)),
    Row("factor N", rules(lambda q: (N * q.x, q.w))),
    Row("factor 2", rules(lambda q: (2 * q.x, q.w, {"vectors": q.Z}))),
    Row("shift", rules(lambda q: (q.x + 0.03 * q.x.max(), q.w))),
]
SMOOTHED = [
    Row("mass P", lambda c: times(smooth(c), len(c.parts))),
    Row("mass n", lambda c: times(smooth(c), 400)),
    Row("density not normalised", lambda c: times(smooth(c), 0.7)),
    Row(
        "kernel not normalised",
        lambda c: times(smooth(c), smooth(c)[2]["width"] * np.sqrt(2 * np.pi)),
    ),
    Row("kernel width", lambda c: smooth(c, seen_width=1 / 2)),
    Row("fewer probes", lambda c: smooth(c, n=1, said=10**5)),
]
DENSITIES, SMOOTHED = (
    [Row(x.told, x.make, assert_density, x.kinds, x.how) for x in every]
    for every in (DENSITIES, SMOOTHED)
)


@dataclass(frozen=True)
class Means:
    """Means of cells (C, K, P) and of classes (C, P), and the masses of both."""

    cells: np.ndarray
    mass: np.ndarray
    classes: np.ndarray
    masses: np.ndarray

    def level(self, mass=None, classes=None):
        """The between-class level, or one with other masses or means."""
        mass = self.masses if mass is None else mass
        classes = self.classes if classes is None else classes
        return np.einsum("c,cp,cq->pq", mass, classes, classes)


def means(seen, vectors=None, w=None):
    """By loops over classes, of gradients or of other vectors (N, K, P)."""
    g = seen.gradients if vectors is None else vectors
    K = g.shape[1]
    w = (S[:, None] * seen.p if K > 1 else S[:, None]) if w is None else w
    cells, mass = np.zeros((C, K, g.shape[2])), np.zeros((C, K))
    for c in range(C):
        mine = np.flatnonzero(c == LABELS)
        for k in range(K):
            mass[c, k] = w[mine, k].sum()
            cells[c, k] = w[mine, k] @ g[mine, k] / mass[c, k]
    others = mass * (1 - np.eye(C)) if K > 1 else mass
    masses = others.sum(axis=1)
    classes = np.einsum("ck,ckp->cp", others, cells) / masses[:, None]
    return Means(cells, mass, classes, masses)


def plain(cells):
    """Means over c' != c that weigh every cross class alike."""
    away = (1 - np.eye(C)) / (C - 1)
    return np.einsum("ck,ckp->cp", away, cells)


def as_level(name, of=None):
    """What makes a row: a level or means of gradients, or of the last features."""

    def make(change):
        def made(seen):
            if of is None:
                return {name: change(means(seen))}
            h = seen.layers[last(seen)][0]
            return {name: change(means(seen, h.reshape(N, 1, -1)))}

        return made

    return make


def last(seen):
    return list(seen.layers)[-1]


BETWEEN, CLASS, CELLS = map(
    as_level, ("between_class", "class_means", "cross_class_means")
)
_ALIKE = np.full(C, 1 / C)
FEATURES = {"of": "features", "layer": last}
LEVELS = [
    Row("classes weighed alike", BETWEEN(lambda m: m.level(_ALIKE))),
    Row(
        "classes weighed alike",
        lambda c: {"between_class": means(c, w=BALANCED[:, None] * c.p).level()},
    ),
    Row(
        "cross classes weighed alike", BETWEEN(lambda m: m.level(None, plain(m.cells)))
    ),
    Row("factor N", BETWEEN(lambda m: N * m.level())),
    Row("c' = c not left out", BETWEEN(lambda m: 0 * m.level())),
    Row("cross classes weighed alike", CLASS(lambda m: plain(m.cells))),
    Row("c' = c not left out", CLASS(lambda m: m.cells.mean(axis=1))),
    Row(
        "p left out",
        lambda c: {"class_means": plain(means(c, w=np.ones((N, C))).cells)},
    ),
    Row(
        "samples weighed alike",
        lambda c: {"cross_class_means": means(c, w=np.ones((N, C))).cells},
    ),
    Row("not divided by the mass", CLASS(lambda m: m.masses[:, None] * m.classes)),
    Row("not divided by the mass", CELLS(lambda m: m.mass[:, :, None] * m.cells)),
    Row(
        "divided by the samples",
        CLASS(lambda m: (m.masses / m.mass.sum(1))[:, None] * m.classes),
    ),
    Row(
        "global mean taken off",
        CLASS(lambda m: m.classes - m.masses @ m.classes / m.masses.sum()),
    ),
    Row("classes weighed alike", CLASS(lambda m: m.classes - m.classes.mean(axis=0))),
    Row("class order", CLASS(lambda m: m.classes[[1, 0, 2, 3]])),
    Row("class mean taken off", CELLS(lambda m: m.cells - m.classes[:, None])),
    Row("c and c' exchanged", CELLS(lambda m: m.cells.swapaxes(0, 1))),
    Row(
        "c' = c left out",
        CELLS(lambda m: m.cells * (1 - np.eye(C))[:, :, None]),
    ),
    Row("factor N", CLASS(lambda m: N * m.classes)),
    *(
        Row("classes weighed alike", as_level(name, "features")(change), kinds=NETWORKS)
        for name, change in (
            ("global_mean", lambda m: m.classes.mean(axis=0)),
            ("global_mean", lambda m: np.outer(*[m.classes.mean(axis=0)] * 2)),
            ("class_means", lambda m: m.classes - m.classes.mean(axis=0)),
            (
                "between_class",
                lambda m: m.level(None, m.classes - m.classes.mean(axis=0)),
            ),
            (
                "between_class",
                lambda m: m.level(_ALIKE, m.classes - m.classes.mean(axis=0)),
            ),
        )
    ),
]
LEVELS = [
    Row(
        x.told,
        x.make,
        assert_levels,
        x.kinds,
        FEATURES if x.kinds == NETWORKS else {},
    )
    for x in LEVELS
]


def ghosts(seen):
    """A histogram of the Ritz values of a long Lanczos without reorthogonalisation."""
    x, _, _ = quadrature(seen, 40, 20)
    return x, np.full_like(x, 1 / 40)


#: What cannot be told, and is said to be so: no failure.
UNTOLD = [
    Row(
        "probes would",
        lambda c: (quadrature(c, 2, 1)[0], quadrature(c, 2, 1)[1][:, 0] ** 2),
        assert_density,
    ),
    Row("[kernel width]", lambda c: smooth(c, width=0.5), assert_density),
]


def bent(seen):
    A = seen.fisher()
    u = np.random.default_rng(1).standard_normal(len(A))
    return A + np.outer(u, u) * np.trace(A) / len(A) ** 2


OUTSIDE = [
    Row("a factor of no meaning", lambda c: 0.7312 * c.fisher()),
    Row("one more direction", bent),
    Row("one entry", lambda c: c.fisher() * (1 + 0.5 * np.eye(len(c.parts))[-1])),
    Row("a square", lambda c: c.fisher() @ c.fisher()),
    Row(
        "noise",
        lambda c: (
            c.fisher()
            + 1e-4 * np.random.default_rng(0).standard_normal((len(c.parts),) * 2)
        ),
    ),
    Row("other errors", lambda c: c.fisher(gradients=np.tanh(c.gradients))),
    Row(
        "damping of no pattern",
        lambda c: c.fisher() + np.diag(np.linspace(0.01, 0.02, len(c.parts))),
    ),
    Row("a temperature", lambda c: c.fisher(labels=c.p**0.7)),
    Row(
        "values off",
        lambda c: eigenvalues(c.fisher())[:6] * [1.01, 0.99, 1.012, 0.97, 1.01, 1.0],
        assert_spectrum,
    ),
    Row(
        "values that a tolerance left",
        lambda c: eigenvalues(c.fisher())[:6] * (1 - 3e-8 * np.arange(1, 7)),
        assert_spectrum,
    ),
    Row(
        "values times no factor",
        lambda c: 0.87 * eigenvalues(c.fisher())[:6],
        assert_spectrum,
    ),
    Row("a power", lambda c: eigenvalues(c.fisher())[:6] ** 1.1, assert_spectrum),
    Row(
        "nodes times no factor",
        rules(lambda q: (1.618 * q.x, q.w)),
        assert_density,
    ),
    Row(
        "nodes bent",
        rules(lambda q: (np.abs(q.x) ** 1.2, q.w, {"vectors": q.Z})),
        assert_density,
    ),
    Row("a density of bent nodes", lambda c: smooth(c, bent=1.5), assert_density),
    Row("means off", CLASS(lambda m: 1.07 * m.classes), assert_levels),
    Row("means of other vectors", CLASS(lambda m: np.tanh(m.classes)), assert_levels),
    Row(
        "a level of other means",
        BETWEEN(lambda m: m.level(None, m.cells[:, 0])),
        assert_levels,
    ),
]
