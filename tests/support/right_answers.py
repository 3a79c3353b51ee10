"""Right answers of all kinds that the oracle is asked about, drawn at random.

In any format and by any algorithm: einsum, products alone, LAPACK, ARPACK, Lanczos with
and without reorthogonalisation, many probes or one. None may be rejected.
"""

import numpy as np
import scipy.sparse.linalg

from refspec.testing import assert_density, assert_operator, assert_spectrum
from support.mistakes import S, case, eigenvalues, lanczos, smooth_rules

KINDS = ("mlp", "cnn", "norm", "sharp", "moment")


def drawn(seed):
    """Return a right answer: what it is, and a function that asks about it."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    seen = case(kind, 1000 + seed // len(KINDS))
    makes = [matrix, products, empirical, spectrum, arpack, quadrature, quadrature]
    makes += [] if kind == "moment" else [curved, factored]
    return makes[rng.integers(len(makes))](seen, rng)


def matrix(seen, rng):
    narrow = rng.random() < 0.5
    g = seen.gradients.astype(np.float32 if narrow else float)
    A = seen.fisher(S.astype(g.dtype), seen.p.astype(g.dtype), g)
    assert A.dtype == g.dtype
    name = f"Fisher by einsum, {A.dtype}"
    return name, lambda: assert_operator(A, seen.expected)


def products(seen, rng):
    """J'(diag p - pp')J v, sample by sample in any order."""
    order, p = rng.permutation(len(S)), seen.p
    J = seen.J if hasattr(seen, "J") else seen.gradients[:, :1] - seen.gradients

    def product(v):
        t = J[order] @ v
        t = p[order] * (t - np.sum(p[order] * t, axis=1, keepdims=True))
        return np.einsum("ncp,nc->p", J[order], t) / len(S)

    return "Gauss-Newton, products", lambda: assert_operator(product, seen.expected)


def empirical(seen, rng):
    del rng
    g = np.einsum("nc,ncp->np", seen.hot(), seen.gradients)

    def ask():
        return assert_operator(g.T @ g / len(S), seen.expected, of="empirical_fisher")

    return "empirical Fisher", ask


def spectrum(seen, rng):
    r, A = int(rng.integers(1, len(seen.parts))), seen.fisher()
    A = A.astype(np.float32) if rng.random() < 0.5 else A
    values = eigenvalues(A)[:r]
    name = f"eigenvalues by LAPACK, {A.dtype}"
    return name, lambda: assert_spectrum(values, seen.expected)


def arpack(seen, rng):
    A, r = seen.fisher(), int(rng.integers(1, 7))
    values, V = scipy.sparse.linalg.eigsh(A, r, which="LA")

    def ask():
        return assert_spectrum(values, seen.expected, vectors=V)

    return "top eigenvalues by ARPACK", ask


def curved(seen, rng):
    H = seen.hessian()
    if rng.random() < 0.5:
        return "Hessian", lambda: assert_operator(H, seen.expected, of="hessian")
    values = np.linalg.eigvalsh(H)[::-1][: int(rng.integers(1, 8))]

    def ask():
        return assert_spectrum(values, seen.expected, of="hessian")

    return "eigenvalues of the Hessian", ask


def factored(seen, rng):
    A = seen.kfac()
    A = A.astype(np.float32) if rng.random() < 0.5 else A

    def ask():
        return assert_operator(A, seen.expected, of="kfac")

    return f"KFAC by einsum, {A.dtype}", ask


def quadrature(seen, rng):
    draws = ("gaussian", "rademacher")[rng.integers(2)]
    k, n = int(rng.integers(2, 60)), int(4 ** rng.uniform(0, 4))
    full = bool(rng.random() < 0.5)
    Z = rng.standard_normal((len(seen.parts), n))
    Z = np.sign(Z) if draws == "rademacher" else Z
    A = seen.fisher()
    top = float(eigenvalues(A)[0])
    k = min(k, len(A) - 1, 60 if not full else 24)
    x, U = lanczos(A, k, Z, full)
    how = {"draws": draws}
    what = f"quadrature, {draws}"
    if rng.random() < 0.25 and n > 20:
        h = top * rng.uniform(0.01, 0.1)
        grid, density = smooth_rules(x, U[:, 0] ** 2, top, h)
        how |= {"width": h, "steps": k, "probes": n}
        return f"density on a grid, {draws}", lambda: assert_density(
            grid, density, seen.expected, **how
        )
    if rng.random() < 0.5:
        how["vectors"] = Z
        what += ", probes known"
    if rng.random() < 0.25:
        x = x.astype(np.float32)
        what += ", float32"
    return what, lambda: assert_density(x, U[:, 0] ** 2, seen.expected, **how)
