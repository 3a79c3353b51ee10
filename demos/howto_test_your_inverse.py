"""Test your influence function's inverse product, here by conjugate gradients."""

import numpy as np

import refspec
from refspec.testing import assert_inverse

s, d, small = refspec.datasets.digits_mlp(), 0.01, 2.0**-30
F = refspec.fisher(s, ["fc3"])


def mine(v, d=d):
    """Yours: (F + d)^-1 v, stopped by the residual r."""
    x, r, p = 0 * v, v, v
    while np.linalg.norm(r) > small * np.linalg.norm(v) / 2:
        Ap, before = F.matvec(p) + d * p, r @ r
        x, r = (y + before / (p @ Ap) * z for y, z in ((x, p), (r, -Ap)))
        p = r + (r @ r) / before * p
    return x


print(assert_inverse(mine, s, layer="fc3", damping=d, residual=small))
try:
    assert_inverse(lambda v: mine(v, 2 * d), s, layer="fc3", damping=d, residual=small)
except AssertionError as error:
    told = str(error)
assert "the damping is 0.02, not 0.01" in told
