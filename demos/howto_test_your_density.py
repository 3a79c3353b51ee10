"""Test your spectral density: one probe with its vector tells, weights are named."""

import numpy as np

import refspec
from refspec.testing import assert_density

s = refspec.datasets.digits_mlp()
F, z = refspec.fisher(s, ["fc3"]), np.random.default_rng(0).standard_normal(170)
q, before, T = z / np.linalg.norm(z), 0 * z, np.zeros((21, 21))
for k in range(20):  # yours
    T[k, k], v = q @ F.matvec(q), F.matvec(q)
    v = v - (q @ v) * q - T[k - 1, k] * before
    T[k, k + 1] = T[k + 1, k] = np.linalg.norm(v)
    before, q = q, v / T[k, k + 1]
nodes, U = np.linalg.eigh(T[:20, :20])
print(assert_density(nodes, U[0] ** 2, s, layer="fc3", vectors=z[:, None]))
try:
    assert_density(nodes, abs(U[0]), s, layer="fc3")
except AssertionError as error:
    told = str(error)
assert "[weights not squared]" in told
