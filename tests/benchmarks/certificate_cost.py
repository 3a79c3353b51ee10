"""Cost and quality of `certified_eigenvalues` against LAPACK.

Prints, for random second moments of n rows, the time of scipy.linalg.eigh with
vectors (driver evd), of the whole certified computation, their ratio, and the
median and largest radius in units of eps ||A||: of a matrix whose eigenvalues are
separated (refined by Kato-Temple), and of one where every eigenvalue is double.

Run: python tests/benchmarks/certificate_cost.py [n ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from refspec.rounding import certificates


def fastest(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least time of several calls, and the last result."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def clustered(A: np.ndarray) -> np.ndarray:
    """Return A (+) A: every eigenvalue twice, so nothing can be refined."""
    return scipy.linalg.block_diag(A, A)


def measure(A: np.ndarray, name: str) -> None:
    """Print one line."""
    repeats = max(2, 2000 // len(A))
    plain, _ = fastest(lambda: scipy.linalg.eigh(A, driver="evd"), repeats)
    whole, found = fastest(lambda: certificates.certified_eigenvalues(A), repeats)
    unit = 2.0**-52 * np.max(np.abs(found.values))
    radii = found.radii / unit
    sys.stdout.write(
        f"{name:>9} {len(A):5d}  eigh {plain:6.3f} s  certified {whole:6.3f} s  "
        f"ratio {whole / plain:4.2f}  radius / eps||A||: median "
        f"{np.median(radii):6.3f}  largest {np.max(radii):6.3f}\n"
    )


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    for n in [int(size) for size in sys.argv[1:]] or [500, 1000, 2000]:
        X = rng.standard_normal((n, 2 * n))
        measure(X @ X.T, "separated")
        X = rng.standard_normal((n // 2, n))
        measure(clustered(X @ X.T), "clustered")
