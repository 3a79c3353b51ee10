"""Derivatives of networks whose rows are known: softmax regression by hand."""

import numpy as np

from refspec import backend
from refspec.classes import Layer, snapshot
from refspec.differentiated import Jacobian


class Regression(Jacobian):
    """Logits W x, W of shape (C, a): P = C a parameters, row-major."""

    def __init__(self, x, C):
        self.x, self.C = x, C

    @property
    def shape(self):
        N, a = self.x.shape
        return N, self.C, self.C * a

    @property
    def like(self):
        return self.x

    def dot(self, V, i, j):
        xp, (P, m) = backend.namespace(V), V.shape
        W = xp.permute_dims(xp.reshape(V, (self.C, P // self.C, m)), (1, 0, 2))
        flat = self.x[i:j, :] @ xp.reshape(W, (P // self.C, self.C * m))
        return xp.reshape(flat, (j - i, self.C, m))

    def cross(self, S, i, j):
        xp, m, a = backend.namespace(S), S.shape[2], self.x.shape[1]
        flat = xp.matrix_transpose(self.x[i:j, :]) @ xp.reshape(S, (j - i, -1))
        W = xp.permute_dims(xp.reshape(flat, (a, self.C, m)), (1, 0, 2))
        return xp.reshape(W, (self.C * a, m))


def regression(seed=0, counts=(3, 1, 4), a=5, sharpness=1.0, dtype="float64"):
    """A derivative, logits, labels and the snapshot with the same rows."""
    rng, C, N = np.random.default_rng(seed), len(counts), sum(counts)
    labels = np.repeat(np.arange(C), counts)
    x = rng.standard_normal((N, a)).astype(dtype)
    logits = sharpness * (rng.standard_normal((N, C)) + 2 * np.eye(C)[labels])
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    errors = p[:, None, :] * (1 - np.eye(C))
    errors -= errors.sum(2, keepdims=True) * np.eye(C)
    layer = Layer("fc", x[:, None, :], errors[:, :, None, :].astype(dtype))
    given = snapshot([layer], labels, probabilities=p.astype(dtype))
    return Regression(x, C), logits, labels, given
