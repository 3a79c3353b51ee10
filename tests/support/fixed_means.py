"""Outliers of fixed means to first order, one by one: oracles of the small matrix."""

import numpy as np

from refspec.random_matrix.free import law as free_law


def deviations(law, v, strength):
    """sqrt(2 psi' (v^2 - psi' theta^4) / d), real Gaussian data."""
    rate = free_law.derivative(law, v)
    return np.sqrt(2 * rate * (v**2 - rate * strength**2) / law.dimension)


def random_deviation(law, scale):
    """sqrt(2 d psi'(d t)) t, of one random effect of variance t.

    Paul, Statist. Sinica 17 (2007); Bai and Yao, Ann. IHP 44 (2008).
    """
    rate = free_law.derivative(law, np.asarray([law.dimension * scale]))[0]
    return np.sqrt(2 * law.dimension * rate) * scale


def mean_shifts(law, v, strength):
    """E lambda_k - psi(v_k) to order 1 / d, distinct v: pairs repel, each moves itself.

    Random effects repel by v_k v_l / (d (v_k - v_l)) (Lawley); part of that is the
    spread of their lengths, which fixed means lack. The resolvent of real noise has a
    mean of its own at the order 1 / d (Bai and Silverstein).
    """
    d, rate = law.dimension, free_law.derivative(law, v)
    gaps = v[:, None] - v
    np.fill_diagonal(gaps, np.inf)
    pull = np.outer(v, v) - np.outer(rate * strength, strength)
    own = free_law.curvature(law, v) * (v**2 / (2 * rate) - strength**2)
    return (np.sum(pull / gaps, axis=1) + own) / d
