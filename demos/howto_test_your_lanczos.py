"""Test your Lanczos: k steps give the top eigenvalues, and a missed one is named."""

import numpy as np

import refspec
from refspec.testing import assert_spectrum

s = refspec.datasets.digits_mlp()
F, Q, z = refspec.fisher(s, ["fc3"]), [], np.random.default_rng(0).standard_normal(170)
for _ in range(60):  # yours: orthogonalised twice against all vectors before
    for q in Q * 2:
        z = z - q * (q @ z)
    Q.append(z / np.linalg.norm(z))
    z = F.matvec(Q[-1])
values, U = np.linalg.eigh(np.stack(Q) @ F.matvec(np.stack(Q, 1)))
top, vectors = values[:-6:-1], (np.stack(Q, 1) @ U)[:, :-6:-1]
print(assert_spectrum(top, s, layer="fc3", vectors=vectors).statement)
try:
    assert_spectrum(np.delete(values[::-1][:6], 2), s, layer="fc3")
except AssertionError as error:
    told = str(error)
assert "number 3 is missed" in told
