"""Operators as somebody's library would make them, right and with each mistake.

They are made densely and by einsum from the stored features and errors, with no code of
refspec between.
"""

import numpy as np
import scipy.linalg

from refspec import hessian, models
from refspec.models import evaluation

LABELS = np.repeat(np.arange(3), [5, 3, 4])


N, C = 12, 3


def network(kind, activation="tanh"):
    rng = np.random.default_rng(0)
    if kind == "mlp":
        net, X = models.mlp([3, 4, C], activation, rng=rng), rng.normal(size=(N, 3))
    else:
        net = models.cnn((1, 4, 4), [2], C, activation=activation, rng=rng)
        X = rng.normal(size=(N, 1, 4, 4))
    vector = models.flatten(net)
    return models.unflatten(net, vector + 0.3 * rng.normal(size=vector.shape)), X


class Dense:
    """What somebody's library would compute, as matrices."""

    def __init__(self, kind):
        self.net, self.X = network(kind)
        self.snapshot = models.snapshot(self.net, self.X, LABELS)
        self.p = self.snapshot.probabilities
        self.s = np.full(N, 1 / N)
        self.layers = {x.name: (x.features, x.errors) for x in self.snapshot.layers}

    def jacobians(self):
        """J'e_c of each layer: errors back from unit vectors."""
        steps, f = evaluation.forward(self.net, self.X)
        seeds = np.tile(np.eye(C), (len(f), 1, 1))
        return {x.name: d for x, d in evaluation.backpropagate(steps, seeds, np)}

    def gradients(self, errors=None, names=None):
        """Gradients (N, C, P), errors (x) features."""
        parts = []
        for name in names or self.layers:
            h, d = self.layers[name]
            d = d if errors is None else errors[name]
            g = np.einsum("nctb,nta->ncba", d, h)
            parts.append(g.reshape(*g.shape[:2], -1))
        return np.concatenate(parts, axis=2)

    def fisher(self, w=None, errors=None, names=None):
        g = self.gradients(errors, names)
        w = self.s[:, None] * self.p if w is None else w
        return np.einsum("nc,ncp,ncq->pq", w, g, g)

    def own(self):
        return self.s[:, None] * np.eye(C)[LABELS]

    def factors(self, name, left="expand", right="expand", w=None, errors=None):
        h, d = self.layers[name]
        d = d if errors is None else errors[name]
        w = self.s[:, None] * self.p if w is None else w
        T = h.shape[1]
        if left == "reduce":
            d = d.sum(axis=2, keepdims=True)
        if right == "reduce":
            h = h.mean(axis=1, keepdims=True)
        H = np.einsum("n,nta,ntb->ab", self.s, h, h) / h.shape[1]
        assert h.shape[1] <= T
        return np.einsum("nc,ncta,nctb->ab", w, d, d), H

    def kfac(self, *args, **kwargs):
        return [np.kron(*self.factors(x, *args, **kwargs)) for x in self.layers]

    def swap(self, A):
        """The same operator, features (x) errors: every layer's factors transposed."""
        places, start = [], 0
        for h, d in self.layers.values():
            b, a = d.shape[3], h.shape[2]
            places.append(start + np.arange(a * b).reshape(b, a).T.ravel())
            start += a * b
        places = np.concatenate(places)
        return A[np.ix_(places, places)]

    def biases(self):
        parts = [
            np.tile(np.arange(h.shape[2]) == h.shape[2] - 1, d.shape[3])
            for h, d in self.layers.values()
        ]
        return np.concatenate(parts)


def blocks(parts):
    return scipy.linalg.block_diag(*parts)


def without(A, mask):
    return np.where(mask[:, None] | mask[None, :], 0, A)


def apart(A, mask):
    return np.where(mask[:, None] == mask[None, :], A, 0)


CASES = {"mlp": Dense("mlp"), "cnn": Dense("cnn")}


#: name of the mistake in the diagnosis, and the operator that makes it.
FISHER = {
    "factor N": lambda c: N * c.fisher(),
    "factor 1/N": lambda c: c.fisher() / N,
    "factor NC": lambda c: N * C * c.fisher(),
    "factor 1/C": lambda c: c.fisher() / C,
    "factor C": lambda c: C * c.fisher(),
    "factor C - 1": lambda c: (C - 1) * c.fisher(),
    "factor 1/(C - 1)": lambda c: c.fisher() / (C - 1),
    "factor C/(C - 1)": lambda c: c.fisher() * C / (C - 1),
    "factor (C - 1)/C": lambda c: c.fisher() * (C - 1) / C,
    "factor N/(N - 1)": lambda c: c.fisher() * N / (N - 1),
    "factor 2": lambda c: 2 * c.fisher(),
    "factor 1/2": lambda c: c.fisher() / 2,
    "sign": lambda c: -c.fisher(),
    "empirical Fisher": lambda c: c.fisher(c.own()),
    "empirical Fisher, factor N": lambda c: N * c.fisher(c.own()),
    "missing centring": lambda c: c.fisher(errors=c.jacobians()),
    "uniform labels": lambda c: c.fisher(np.full((N, C), 1 / N / C)),
    "order column_stacked": lambda c: c.swap(c.fisher()),
    "order column_stacked, factor 2": lambda c: 2 * c.swap(c.fisher()),
    "bias left out": lambda c: without(c.fisher(), c.biases()),
    "bias apart": lambda c: apart(c.fisher(), c.biases()),
    "block-diagonal": lambda c: blocks([c.fisher(names=[x]) for x in c.layers]),
    "Hessian": lambda c: hessian.hessian(c.net, c.X, LABELS),
    "KFAC": lambda c: blocks(c.kfac()),
}


KFAC = {
    "factor N": lambda c: N * blocks(c.kfac()),
    "factor 1/N": lambda c: blocks(c.kfac()) / N,
    "factor C - 1": lambda c: (C - 1) * blocks(c.kfac()),
    "factor 2": lambda c: 2 * blocks(c.kfac()),
    "empirical Fisher": lambda c: blocks(c.kfac(w=c.own())),
    "missing centring": lambda c: blocks(c.kfac(errors=c.jacobians())),
    "order column_stacked": lambda c: blocks(
        [np.kron(*c.factors(x)[::-1]) for x in c.layers]
    ),
    "bias left out": lambda c: without(blocks(c.kfac()), c.biases()),
    "bias apart": lambda c: apart(blocks(c.kfac()), c.biases()),
    "layer order": lambda c: blocks(c.kfac()[::-1]),
    "Gauss-Newton blocks": lambda c: blocks([c.fisher(names=[x]) for x in c.layers]),
}


POSITIONS = {
    "setting reduce": lambda c: blocks(c.kfac("reduce", "reduce")),
    "errors reduce, features expand": lambda c: blocks(c.kfac("reduce", "expand")),
    "errors expand, features reduce": lambda c: blocks(c.kfac("expand", "reduce")),
    "T by layer": lambda c: blocks(
        [len(c.layers[x][0][0]) * np.kron(*c.factors(x)) for x in c.layers]
    ),
    "1/T by layer": lambda c: blocks(
        [np.kron(*c.factors(x)) / len(c.layers[x][0][0]) for x in c.layers]
    ),
    "factor T": lambda c: 16 * np.kron(*c.factors("conv1")),
    "factor 1/T": lambda c: np.kron(*c.factors("conv1")) / 16,
}


def names_of(error):
    """The bracketed names of the mistakes that the message gives."""
    lines = str(error.value).splitlines()
    found = [x for x in lines if x.strip().startswith("diagnosis") and "[" in x]
    return [x.rsplit("[", 1)[1].split(";")[0].rstrip("]") for x in found]
