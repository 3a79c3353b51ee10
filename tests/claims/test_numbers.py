"""The numbers that claims are judged by, from the definitions, in loops."""

import numpy as np
import scipy.stats

import refspec
from refspec import backend, claims, datasets, hessian, models, rounding
from refspec.attribution import attribute_hessian, depth_profile
from refspec.claims.edges import above
from refspec.claims.registry import rank_correlation
from refspec.kronecker import compare_layer
from support.snapshots import seen, trained

U = 2.0**-53


def numbers(snapshot, claim):
    """What a claim measures, by place."""
    (found,) = claims.judge(snapshot, claim)
    return {x.place: x.numbers for x in found.evidence}


def test_collapse():
    """Classes of unequal masses; S_B of class means that count alike."""
    s = seen(3, counts=(4, 1, 6), hidden=(5,))
    found, x, y = claims.collapse(s), s.layers[-1], s.labels
    h, w = x.features[:, 0], s.sample_weights
    means = np.stack(
        [np.average(h[y == c], axis=0, weights=w[y == c]) for c in (0, 1, 2)]
    )
    centred = means - means.mean(axis=0)
    within = sum(
        w[i] * np.outer(h[i] - means[y[i]], h[i] - means[y[i]]) for i in range(11)
    )
    between = centred.T @ centred / 3
    values, V = np.linalg.eigh(between)
    V, values = V[:, -2:], values[-2:]
    nc1 = np.trace((V.T @ within @ V) / values[:, None]) / 3
    lengths = np.linalg.norm(centred, axis=1)
    unit = centred / lengths[:, None]
    angles = np.mean(
        [abs(unit[i] @ unit[j] + 1 / 2) for i, j in ((0, 1), (0, 2), (1, 2))]
    )
    W = models.from_section(s.model).parameters
    W = next(v for v in W.values() if v.shape == (3, 5))
    lined = centred[:, :5] / np.linalg.norm(centred[:, :5])
    nc3 = np.linalg.norm(W / np.linalg.norm(W) - lined)
    away = np.linalg.norm(h[:, None] - means, axis=2).argmin(axis=1)
    nc4 = w @ (away == s.probabilities.argmax(axis=1)) / w.sum()
    condition = values[-1] / values[0]
    slack = rounding.gamma(2**12 * condition, U)
    for one, two in (
        (found.nc1, nc1),
        (found.nc2_lengths, np.std(lengths) / np.mean(lengths)),
        (found.nc2_angles, angles),
        (found.nc3, nc3),
        (found.nc4, nc4),
    ):
        assert abs(one - two) <= slack * max(1, two)
    assert slack < 2.0**-20


def test_above_an_edge_for_certain_and_perhaps():
    """The edge is known to the radius, and so is every value."""
    values = np.array([10.0, 5.375, 5.25, 5.0, 4.875, 4.75, 3.0])
    assert above(values, 5.0, 0.125) == (2, 5)
    assert above(values, 5.0, 0.0) == (3, 3)


def test_trends_with_depth():
    s = datasets.digits_mlp()
    for of, found in numbers(s, "L").items():
        profile = list(depth_profile(s, of).values())
        expected = (
            [x.separation.value for x in profile],
            [-x.orthogonality.value for x in profile],
            [-x.cosine for x in profile],
        )
        for one, values in zip(found.values(), expected, strict=True):
            assert one == rank_correlation(range(3), values)
        assert abs(found["rank correlation of -mean |cos| with depth"]) > 0


def test_ranks_of_ties_are_their_mean():
    x, y = [1, 2, 2, 3, 5, 4], [2.0, 2.0, 1.0, 4.0, 3.0, 3.0]
    true = float(scipy.stats.spearmanr(x, y).statistic)
    assert abs(rank_correlation(x, y) - true) <= rounding.gamma(64, U)


def test_weights_and_their_class_part():
    """-1/eta of the gradient, and of products of means times the masses."""
    _, s = trained()
    eta, C, y = s.provenance["weight_decay"], 3, s.labels
    W = models.from_section(s.model).parameters
    every = [x for x in W.values() if x.ndim == 2]
    for x, weight, found in zip(s.layers, every, numbers(s, "P").values(), strict=True):
        h = x.features[:, 0, : weight.shape[1]]
        e, w = x.errors[np.arange(len(y)), y, 0], s.sample_weights
        whole = -(e * w[:, None]).T @ h / eta
        part = np.zeros_like(weight)
        for c in range(C):
            mine, mass = y == c, w[y == c].sum()
            mean = np.average(e[mine], axis=0, weights=w[mine])
            part -= (
                mass
                * np.outer(mean, np.average(h[mine], axis=0, weights=w[mine]))
                / eta
            )
        off = np.linalg.norm(weight - whole) / np.linalg.norm(weight)
        P, sigma, Q = np.linalg.svd(weight, full_matrices=False)
        shares = [P[:, k] @ part @ Q[k] / sigma[k] for k in range(C)]
        slope = s.provenance["gradient_norm"] / (eta * np.linalg.norm(weight))
        expected = (off, float(np.median(shares)), slope)
        for one, two in zip(found.values(), expected, strict=True):
            assert abs(one - two) <= rounding.gamma(2**16, U) * max(1, abs(two)) / eta


def test_outliers_of_the_hessian():
    s = datasets.wine_sklearn()
    (found,) = numbers(s, "H").values()
    H = hessian.of_snapshot(s)
    a = attribute_hessian(H, refspec.fisher(s))
    top = a.values[:3]
    expected = (
        min(1 - np.abs(a.parts["residual"][:3]) / top),
        max(np.abs(a.values - a.fisher)[:3] / top),
        a.weyl / top[2],
        np.sin(a.angles).max(),
    )
    assert list(found.values()) == [float(x) for x in expected]
    assert len(a.angles) == 3


def test_approximations_of_a_layer():
    """Which is nearer, three ways, of KFAC and EKFAC."""
    s = datasets.wine_sklearn()
    (finding,) = claims.judge(s, "X")
    for x, evidence in zip(s.layers, finding.evidence, strict=True):
        found = compare_layer(s, x.name)
        won = 0
        for n in ("kfac", "ekfac"):
            won += found.log10_error[n] > found.log10_error["cfac"]
            won += found.frobenius_error[n] > found.frobenius_error["cfac"]
            won += found.angles[n].max() > found.angles["cfac"].max()
        assert f"in {won} of 6 comparisons" in evidence.reason
        assert 2 * won != 6  # effect: the other way round it is another number


def test_the_bulk_and_what_the_diagonal_moves():
    """What is not above the edge, whose it is; the largest move of C(C - 1)."""
    s = datasets.wine_sklearn()
    m = refspec.fisher(s)
    a = refspec.attribute(m)
    W = claims.edges(m)
    first, C = W.above_within[0], s.probabilities.shape[1]
    values = backend.to_host(a.spectrum.values)[: len(a.kinds)]
    rest = a.traces["within_cross_class"]
    rest -= sum(values[:first] * a.shares["within_cross_class"][:first])
    total = sum(a.traces.values()) - sum(values[:first])
    bulk = numbers(s, "W")["all layers of the export"]
    share = bulk["share of the within level in the bulk's trace"]
    slack = rounding.gamma(8 * len(values), U) * sum(a.traces.values()) / total
    assert abs(share - rest / total) <= slack
    top = min(C * (C - 1), len(values))
    without = np.pad(a.knockouts["diagonal"], (0, len(values)))
    moved = max(1 - without[k] / values[k] for k in range(top))
    found = numbers(s, "D")["all layers of the export"]
    assert found["largest relative move of one of the C(C - 1) largest"] == moved
    assert found["share of the trace"] == a.traces["diagonal"] / sum(a.traces.values())
