"""The check of K16: parts of the Fisher, KFAC and CFAC as forms of random vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import structure
from refspec.kronecker import origins
from refspec.theorems.factored import factored, host, layer_probes, reach
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison
from refspec.theorems.study import Study

__all__ = ["parts"]

_LEVELS = {"outlier": ("diagonal", "between_class"), "bump": ("between_cross_class",)}


def parts(study: Study) -> Iterator[Comparison]:
    """K16: z'(part)z is that of the levels, and no part exceeds its matrix."""
    s = study.once(host)
    for x in study.once(factored):
        name, z = x.layer.name, layer_probes(study, x)
        bound = reach(x, z, study.u) * norm(z)
        values = np.sum(z * x.fisher.matvec(z), axis=0)
        found = origins.fisher_shares(x.fisher, values, z)
        levels = structure.decompose(x.fisher).levels
        for kind, names in _LEVELS.items():
            exact = sum(np.sum(z * levels[n].matvec(z), axis=0) for n in names)
            away = float(np.max(np.abs(found[kind] * values - exact)))
            yield away, bound, f"{kind} of the Fisher of {name}"
        flat = origins.positions_apart(s, name, "expand")
        errors, features = origins.error_and_feature_means(flat)
        values = np.sum(z * x.cfac.matvec(z), axis=0)
        pi = x.factors.frequencies
        found = origins.class_shares(errors, features, pi, values, z)
        over = (found["outlier"] + found["bump"] - 1) * values
        yield float(np.max(over)), bound, f"parts of CFAC of {name}"
        v = (x.layer.errors[:3, 0, 0, :, None] * x.layer.features[:3, 0, None, :]).T
        v = np.moveaxis(v, 0, 1).reshape(-1, v.shape[2])  # products: KFAC factorises
        values = np.sum(v * x.kfac.matvec(v), axis=0)
        delta, h = x.layer.errors[:3, 0, 0].T, x.layer.features[:3, 0].T
        own = np.sum((features @ h) ** 2, axis=0)
        rows = origins.Means(errors.outlier @ delta, errors.bump @ delta).squares()
        over = sum(rows.values()) * own - values
        bound = reach(x, v, study.u) * norm(v) + study.tiny
        yield float(np.max(over)), bound, f"KFAC of {name}"
