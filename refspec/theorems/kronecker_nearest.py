"""Checks of theory/kronecker_nearest.md: what sums of Kronecker products do at best.

The singular values are those of the dense layer Fisher, rearranged: another way than
the library's, which never forms it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import rounding
from refspec.classes import class_slices
from refspec.kronecker import nearest
from refspec.theorems.factored import (
    at_one_position,
    dense_layers_at_one_position,
    on_host,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_U = 2.0**-53


@identity(
    "The nearest Kronecker products",
    "min |F - sum_r A (x) B|^2 = |F|^2 - sum_r sigma_k^2 <= |F - KFAC|^2, |F - CFAC|^2",
    at_one_position,
)
def K17(study: Study) -> Iterator[Comparison]:
    """Compare errors with singular values of the rearranged F, and with KFAC's."""
    for x in dense_layers_at_one_position(study):
        b, a, C = x.b, x.a, len(x.factors.frequencies)
        r = min(C, b * (b + 1) // 2, a * (a + 1) // 2)
        found = nearest(study.once(on_host), x.layer.name, r)
        F = x.fisher.matrix().astype(np.float64)
        scale = norm(F) or 1.0
        F, of = F / scale, x.layer.name
        total = norm(F) ** 2
        flat = np.transpose(F.reshape(b, a, b, a), (0, 2, 1, 3)).reshape(b * b, a * a)
        sigma = np.linalg.svd(flat, compute_uv=False)
        best = np.maximum(total - np.cumsum(sigma[:r] ** 2), 0)
        # norms of what is near 1, twice, and a radius that is relative to |F|^2
        bound = found.radius + 8 * x.slack / scale + rounding.gamma(16 * len(F), _U)
        errors = total * found.errors**2
        yield float(np.max(np.abs(errors - best))), bound, 1.0, f"best errors in {of}"
        inner = float(np.sum(F * (found.terms.matrix() / scale)))
        away = abs(total - inner - best[-1])
        yield away, bound, 1.0, f"F and its projection on the terms of {of}"
        over = errors[0] - norm(F - x.kfac.matrix() / scale) ** 2
        yield over, bound, 1.0, f"KFAC is no nearer in {of}"
        if r == C:
            over = errors[-1] - norm(F - x.cfac.matrix() / scale) ** 2
            yield over, bound, 1.0, f"CFAC is no nearer in {of}"


@inequality(
    "Collapsed classes make CFAC exact",
    "|F - CFAC| <= sum_c pi_c d_c chi_c, spreads of errors' and features' moments",
    at_one_position,
)
def K18(study: Study) -> Iterator[Comparison]:
    """Hold F - CFAC against the spreads within every class."""
    s = study.once(on_host)
    for x in dense_layers_at_one_position(study):
        h, d = (y.astype(np.float64) for y in (x.layer.features, x.layer.errors))
        D = np.swapaxes(d[:, :, 0] * s.probabilities[:, :, None], 1, 2) @ d[:, :, 0]
        M, most = np.swapaxes(h, 1, 2) @ h, 0.0
        for _, i, j in class_slices(s.offsets):
            w = s.sample_weights[i:j].astype(np.float64)
            spreads = [_spread(y[i:j], w) for y in (D, M)]
            most += spreads[0] * spreads[1]
        F = x.fisher.matrix().astype(np.float64)
        over = norm(F - x.cfac.matrix()) - most
        bound = 4 * x.slack + rounding.gamma(8 * len(F) + 8 * len(h), study.u) * x.scale
        yield over, bound, norm(F), f"F - CFAC of {x.layer.name}"


def _spread(x: np.ndarray, w: np.ndarray) -> float:
    """Return the root of sum w |x - mean|_F^2, x (n, d, d); squares may underflow."""
    total = float(np.sum(w))
    mean = np.tensordot(w / total, x, 1) if total > 0 else 0.0
    return norm(np.sqrt(w)[:, None, None] * (x - mean))
