"""Test your Hutch++ trace: without chance, since its probes are known."""

import numpy as np

from refspec import fisher, models
from refspec.testing import assert_trace

rng = np.random.default_rng(0)
network = models.mlp([6, 8, 4], "tanh", rng=rng)
s = models.snapshot(network, rng.standard_normal((40, 6)), np.repeat(range(4), 10))
F = fisher(s)
Q = np.linalg.qr(F.matvec(rng.standard_normal((92, 10))))[0]  # yours, from here
Z = rng.standard_normal((92, 10))
rest, sketched = Z - Q @ (Q.T @ Z), np.sum(Q * F.matvec(Q))
mine = sketched + np.mean(np.sum(rest * F.matvec(rest), axis=0))
print(assert_trace(mine, s, basis=Q, vectors=Z))
try:
    assert_trace(sketched, s, basis=Q, vectors=Z)
except AssertionError as error:
    told = str(error)
assert "[sketch alone" in told
