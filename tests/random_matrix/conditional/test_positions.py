"""A layer with positions: its step, its statistics, and what is refused."""

import dataclasses

import numpy as np
import pytest

import refspec
from refspec import memory, rounding
from refspec.random_matrix import discrepancy, law_of, layers, predict_layer
from refspec.random_matrix.conditional import counting, law, positions
from refspec.theorems.conditional import small, small_convolved

U = 2.0**-53
TOLERANCE = 2.0**-30
CLOSE = np.sqrt(TOLERANCE)


def moved(design, z):
    """Unknowns that are no fixed point."""
    rng, x = np.random.default_rng(0), law.far(design, z)
    noise = rng.standard_normal(x.shape) * np.abs(x) / 8
    return x + 1j * (noise + np.swapaxes(noise, 2, 3))


def added(T, a, h):
    """The map that adds up pairs of one position, as a matrix (a h, T a T h)."""
    eye = np.eye(T)
    out = np.einsum("tu,jk,pq->jptkuq", eye, np.eye(a), np.eye(h))
    return out.reshape(a * h, T * a * T * h)


def by_definition(design, x, z):
    """The step as theory/conditional.md#Y7 states it, every matrix formed."""
    (_, side, k), (_, T, _, h, _) = design.roots.shape, design.inside.shape
    M, width = added(T, side // T, h), T * h
    total, forms = sum(map(np.kron, x[1], design.whole)), []
    for R, c in zip(design.roots, design.labels, strict=True):
        m = design.slopes[c, :, 0]
        forms.append(R @ np.linalg.solve(np.eye(k) + R.T @ x[0][c] @ R, R.T + 0j))
        total = total + np.kron(forms[-1], np.outer(m, m))
    Q = np.linalg.inv(M @ total @ M.T - z * np.eye(len(M)))
    wide = (M.T @ Q @ M).reshape(side, width, side, width)
    delta = np.einsum("jpkq,cqp->cjk", wide, design.whole)
    B = np.zeros_like(delta)
    for E, c in zip(forms, design.labels, strict=True):
        m = design.slopes[c, :, 0]
        B[c] += E - E @ np.einsum("jpkq,p,q->jk", wide, m, m) @ E
    return np.stack([delta, B]), Q


@pytest.mark.parametrize("z", [3 + 1j, 40 + 0.5j])
def test_a_step_is_what_the_theory_says(z):
    design = small_convolved(0)
    x = moved(design, z)
    unknowns, Q = by_definition(design, x, z)
    made = law.step(design, x, z)
    for one, two in ((made.unknowns, unknowns), (made.resolvents[0], Q)):
        bound = rounding.gamma(10**5, U) * np.max(np.abs(two))
        assert np.max(np.abs(one - two)) <= bound


def test_unknowns_of_samples_are_those_of_classes(monkeypatch):
    """One fixed point, of either, and one count."""
    design, z, found = small_convolved(0), 2 + 2.0**-8 * 1j, []
    for apart in (False, True):
        monkeypatch.setattr(positions, "by_samples", lambda _, apart=apart: apart)
        made = law.equivalent(design, z, tolerance=TOLERANCE)
        above = counting.counted(design, made)
        found.append((made.trace, above, law.reach(design)))
        assert made.unknowns.shape[1] == (len(design.labels) if apart else 2)
    one, two = np.asarray(found)
    assert np.max(np.abs(one - two)) <= CLOSE * np.max(np.abs(one))


def test_unknowns_are_the_fewer():
    snapshot = refspec.datasets.mnist_cnn()
    design = law_of(snapshot, "conv1", given="class").design
    assert law.far(design, 1j).shape == (2, 65, 10, 10)
    pooled = law_of(snapshot, "conv2", given="class", covariances="pooled").design
    assert law.far(pooled, 1j).shape == (2, 65, 10, 10)
    few = dataclasses.replace(
        design,
        roots=np.tile(design.roots, (50, 1, 1)),
        labels=np.tile(design.labels, 50),
    )
    assert law.far(few, 1j).shape == (2, 10, 180, 180)


def test_one_position_is_a_layer():
    """The step of positions, with one of them, is that of a layer without."""
    none = {"outside": np.zeros((2, 0)), "layers": (np.zeros(2, int), np.zeros(3, int))}
    one = dataclasses.replace(
        small(0), **none, slopes=small(0).slopes[:, :, :1], regressors=np.ones((9, 1))
    )
    shared = dataclasses.replace(one, inside=one.inside[:, None, None])
    z = 5 + 1j
    x = moved(one, z)
    for here, there in (
        (positions.step(shared, x, z).unknowns, law.step(one, x, z).unknowns),
        (positions.far(shared, z), law.far(one, z)),
    ):
        bound = rounding.gamma(10**5, U) * np.max(np.abs(there))
        assert np.max(np.abs(here - there)) <= bound


def test_the_same_features_everywhere_are_errors_added_up():
    """A gradient is then (sum of errors) (x) features: a layer with one position."""
    shared = small_convolved(0)
    N, _, k = shared.roots.shape
    _, T, _, h, _ = shared.inside.shape
    S, m = shared.inside[:, 0, 0], shared.slopes[:, :h]
    same = dataclasses.replace(
        shared,
        inside=np.tile(S[:, None, None], (1, T, T, 1, 1)),
        slopes=np.tile(m, (1, T, 1)),
    )
    one = dataclasses.replace(
        shared,
        roots=shared.roots.reshape(N, T, -1, k).sum(1),
        inside=S,
        slopes=m,
        positions=1,
    )
    for z in (3 + 1j, 40 + 2j):
        here, there = (law.equivalent(x, z, tolerance=TOLERANCE) for x in (same, one))
        assert abs(here.trace - there.trace) <= CLOSE * abs(there.trace)


@pytest.mark.parametrize("z", [1 + 1j, 30 + 0.5j])
def test_one_fixed_point(z):
    design = small_convolved(1)
    far = law.far(design, z)
    signs = np.asarray([1j, -1j])[:, None, None, None] * np.eye(far.shape[-1])
    found = [
        law.equivalent(design, z, start, tolerance=TOLERANCE).trace
        for start in (None, far + 100 * signs, 0 * far + signs)
    ]
    assert np.max(np.abs(np.asarray(found) - found[0])) <= CLOSE * abs(found[0])


def planted(T=4, d=3, seed=0):
    """A snapshot: Gaussian features that positions share in part, errors apart."""
    rng, C, b = np.random.default_rng(seed), 3, 2
    labels = np.repeat(np.arange(C), 30)
    N = len(labels)
    h = rng.standard_normal((N, T, d)) + rng.standard_normal((N, 1, d))
    h += np.eye(C, d)[labels][:, None]
    errors = rng.standard_normal((N, C, T, b))
    one = refspec.Layer("conv", h, errors)
    two = refspec.Layer("fc", h[:, :1], errors[:, :, :1])
    logits = rng.standard_normal((N, C))
    return refspec.snapshot([one, two], labels, logits=logits)


@pytest.mark.parametrize("covariances", ["class", "shrunk", "pooled"])
@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_the_trace_is_that_of_the_layer(name, covariances):
    """Whatever the features are, of samples weighed by their errors."""
    snapshot = refspec.datasets.mnist_cnn()
    made = law_of(snapshot, name, given="class", covariances=covariances)
    x = made.design
    N, _, k = x.roots.shape
    _, T, _, h, _ = x.inside.shape
    R, m = x.roots.reshape(N, T, -1, k), x.slopes.reshape(-1, T, h)[x.labels]
    alpha = np.einsum("itak,iuak->itu", R, R)
    traces = np.trace(x.inside, axis1=3, axis2=4)[x.own] + m @ np.swapaxes(m, 1, 2)
    exact = refspec.fisher(snapshot, [name]).trace()
    bound = 2.0**20 * rounding.gamma(10**4, U) * exact
    assert abs(np.sum(alpha * traces) - exact) <= bound
    assert f"all {T} positions" in made.assumes[0]
    assert made.means.shape == (10 * T, made.shapes[0][1])


@pytest.mark.slow
def test_gaussian_features_are_predicted():
    snapshot = planted()
    made = predict_layer(law_of(snapshot, "conv", given="class", groups=4))
    exact = refspec.spectrum(refspec.fisher(snapshot, ["conv"]))
    assert discrepancy(made, exact).distance * made.dimension <= 2
    told = made.estimation
    assert len(told.ranks) == made.dimension
    assert np.all(told.deviations > 0)


def test_what_is_refused(monkeypatch):
    snapshot = planted()
    for name, given, message in (
        (["conv", "fc"], {}, "take it alone"),
        ("conv", {"head": 2}, "leave head out"),
        ("conv", {"given": "outputs"}, "must be the logits"),
    ):
        with pytest.raises(ValueError, match=message):
            law_of(snapshot, name, **{"given": "class", **given})
    assert law_of(snapshot, "conv", given="class", head=3).design.reached == 6
    conv = snapshot.layer("conv")
    pooled = positions.needed(conv, 1)
    for limit, message in (
        (pooled, f"covariances='pooled', which needs {pooled}"),
        (pooled - 1, "of fewer positions"),
    ):
        with memory.within(limit), pytest.raises(ValueError, match=message):
            law_of(snapshot, "conv", given="class")
    with memory.within(pooled):
        law_of(snapshot, "conv", given="class", covariances="pooled")
    monkeypatch.setattr(layers, "WIDE", 5)
    with pytest.raises(ValueError, match="nothing is cut off"):
        law_of(snapshot, "conv", given="class")
