"""The nearest sums of Kronecker products, against the singular values of dense ones."""

import dataclasses

import numpy as np
import pytest

import refspec
from refspec import backend, datasets, rounding
from refspec.kronecker import cfac, kfac, nearest
from refspec.kronecker.comparison import layer_fisher
from refspec.kronecker.nearest import rearranged
from support.snapshots import sampled

WORLDS = {
    "dense": {},
    "positions": {"T": 3},
    "more inputs": {"sides": ((7, 2),)},
    "more outputs": {"sides": ((2, 5),)},
    "large": {"scales": (30, 20)},
    "tiny": {"scales": (-30, -20)},
}


def symmetric_singular_values(F, b, a):
    """Van Loan's rearrangement, entry by entry, on symmetric matrices alone."""
    R = np.zeros((b * b, a * a))
    for j in range(b):
        for k in range(b):
            block = F[j * a : (j + 1) * a, k * a : (k + 1) * a]
            R[j * b + k] += block.ravel() / 2
            R[k * b + j] += block.ravel() / 2
    return np.linalg.svd(R, compute_uv=False)


@pytest.mark.parametrize("name", WORLDS)
def test_nearest_is_the_singular_value_decomposition(name, asarray):
    s = sampled(2, asarray=asarray, **WORLDS[name])
    for x in s.layers:
        a, b = x.features.shape[2], x.errors.shape[3]
        F = layer_fisher(s, x.name)
        size = np.linalg.norm(F)
        sigma = symmetric_singular_values(F / size, b, a)
        r = min(3, b * (b + 1) // 2, a * (a + 1) // 2)
        found = nearest(s, x.name, r)
        best = np.maximum(1 - np.cumsum(sigma[:r] ** 2), 0)
        formed = rounding.gamma(64 * (len(s.labels) + len(F)) ** 2, 2.0**-53)
        assert np.abs(found.errors**2 - best).max() <= found.radius + formed
        lefts, rights = (
            backend.to_host(y) for y in (found.terms.lefts, found.terms.rights)
        )
        made = sum(np.kron(A, B) for A, B in zip(lefts, rights, strict=True))
        gap = np.linalg.norm((F - made) / size) ** 2
        assert abs(gap - best[-1]) <= found.radius + formed
        away = np.abs(found.singular_values / size - sigma[:r])
        assert (away * sigma[:r]).max() <= found.radius + formed
        # effect: one term fewer is farther off
        assert best[0] > (best[-1] if r > 1 else 0) + found.radius + formed or r == 1


def test_the_first_term_is_positive_and_better_than_kfac():
    """On every layer of the embedded networks that is small."""
    for name in ("digits_mlp", "iris_decay", "wine_sklearn"):
        s = getattr(datasets, name)()
        C = s.probabilities.shape[1]
        for x in s.layers:
            if x.parameters > 600:
                continue
            found = nearest(s, x.name, C)
            F = layer_fisher(s, x.name)
            size = np.linalg.norm(F)
            for one in (found.terms.lefts[0], found.terms.rights[0]):
                values = np.linalg.eigvalsh(one)
                assert values[0] >= -found.radius * values[-1]
            one, many = (
                np.linalg.norm(F - y(s, x.name).matrix()) / size for y in (kfac, cfac)
            )
            assert found.errors[0] < one
            assert found.errors[-1] < many


def test_a_product_is_its_own_nearest():
    """Features that do not vary: KFAC is the Fisher, and one term is enough."""
    s = sampled(1, sides=((1, 3),))
    found = nearest(s, s.layers[0].name)
    assert found.errors[0] ** 2 <= found.radius
    none = refspec.snapshot(
        [refspec.Layer("fc", np.ones((2, 1, 2)), np.zeros((2, 2, 1, 3)))],
        [0, 1],
        logits=np.zeros((2, 2)),
    )
    assert nearest(none, "fc").errors.tolist() == [0]


def test_the_map_is_the_inner_product_with_products():
    s = sampled(3, T=2, sides=((4, 3),))
    name = s.layers[0].name
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n)) for n in (3, 4))
    A, B = A + A.T, B + B.T
    F = layer_fisher(s, name)
    inner = np.sum(F * np.kron(A, B))
    found = np.sum(A * rearranged(refspec.fisher(s, [name]), B))
    size = np.abs(F).sum() * np.abs(A).sum() * np.abs(B).sum()
    assert abs(inner - found) <= rounding.gamma(64 * len(F), 2.0**-53) * size
    assert abs(inner) > rounding.gamma(64 * len(F), 2.0**-53) * size  # effect


@pytest.mark.parametrize("terms", [0, 4, True, 2.0])
def test_a_number_of_terms_is_refused_if_there_are_not_so_many(terms):
    s = sampled(0)
    kind = TypeError if isinstance(terms, (bool, float)) else ValueError
    with pytest.raises(kind, match="terms must"):
        nearest(s, s.layers[0].name, terms)


def test_collapsed_features_make_cfac_exact():
    """Errors vary, features do not: CFAC is the Fisher, KFAC is not."""
    s = sampled(1, sides=((4, 3),))
    x = s.layers[0]
    collapsed = np.stack([x.features[s.labels == c].mean(axis=0) for c in range(3)])
    near = refspec.Layer(x.name, collapsed[s.labels], x.errors)
    s = dataclasses.replace(s, layers=(near,))
    F = layer_fisher(s, x.name)
    bound = rounding.gamma(64 * len(F), 2.0**-53) * np.linalg.norm(F)
    assert np.linalg.norm(F - cfac(s, x.name).matrix()) <= bound
    assert np.linalg.norm(F - kfac(s, x.name).matrix()) > bound  # effect
