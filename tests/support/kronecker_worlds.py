"""Gradients drawn from a KroneckerPopulation, and their eigenvalues."""

import functools

import numpy as np

from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.kronecker import law
from refspec.synthetic import Recipe
from refspec.theorems import Study


@functools.cache
def world(b, a, C, n, *, errors=4.0, features=5.0, cross=2.0, seed=0):
    """Orthogonal class means, random but fixed cross-class means, unit noise."""
    rng = np.random.default_rng(seed)
    delta = errors * np.linalg.qr(rng.standard_normal((b, C)))[0].T
    h = features * np.linalg.qr(rng.standard_normal((a, C)))[0].T
    cells = cross * rng.standard_normal((C, C, b)) / np.sqrt(b)
    N = C * n
    return KroneckerPopulation(
        Population(
            (n,) * C,
            b,
            np.full((N, C), 1 / (N * C)),
            1.0,
            class_means=delta,
            cross_means=cells,
        ),
        Population((n,) * C, a, np.full((N, 1), 1 / N), 1.0, class_means=h),
    )


def planted(C, b, a, counts, seed):
    """Study a planted world of gradients with unequal classes and weights."""
    recipe = Recipe(
        classes=C,
        dim=b,
        per_class=tuple(counts[:C]),
        means="directions",
        cross_strength=2.0,
        feature_dim=max(a, C),
        confidence=1.0,
        spread=1.0,
        seed=seed,
    )
    made = recipe.plant()
    return Study(made.snapshot, world=made)


def gradients(population, rng, *, shared=True):
    """Weighted rows, shape (N K, P); isotropic noise."""
    e, h = population.errors, population.features
    mean = e.fixed_means()[e.labels]
    delta = mean + np.sqrt(e.within_covariance) * rng.standard_normal(mean.shape)
    base = h.fixed_means()[h.labels]
    copies = 1 if shared else e.K
    noise = rng.standard_normal((e.N, copies, h.dimension))
    x = base + np.sqrt(h.within_covariance) * noise
    g = np.sqrt(e.weights)[:, :, None, None] * delta[..., :, None] * x[..., None, :]
    return g.reshape(e.N * e.K, -1)


@functools.cache
def spectra(population, draws, seed=0, *, shared=True):
    """Eigenvalues of the second moment, descending, shape (draws, P)."""
    rng = np.random.default_rng(seed)
    rows = (gradients(population, rng, shared=shared) for _ in range(draws))
    return np.stack([np.linalg.eigvalsh(x.T @ x)[::-1] for x in rows])


def features_anew(monkeypatch):
    """The mutant law: features drawn anew for every cross class, nothing shared."""
    true = law._forms

    def own(means, over_noise):
        return true(means, over_noise) * np.eye(means.shape[1])

    monkeypatch.setattr(law, "_forms", own)
