"""Edges of the support of nested designs."""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import predict
from refspec.random_matrix.nested import edges
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.nested.edges import EDGE, fold
from refspec.random_matrix.nested.law import fixed_point, reach


@pytest.mark.theorem("R12")
def test_right_edge_is_a_fold():
    population = Population((30, 30), 40, np.ones((60, 1)), np.linspace(1, 3, 40))
    design = nested_design(population)
    far = reach(design)
    made = fixed_point(design, far, -design.traces / far)
    edge, scale, there = fold(design, far, made, far / 100)
    # on both sides of it x is larger: the branch turns, and a goes on
    r = int(np.argmax(np.abs(made.slope / made.a)))
    for side in (-1, 1):
        ahead = there.a.copy()
        ahead[r] *= 1 + side * 2.0**-6
        x, found = edges._on_branch(design, edge, there.a, edge, ahead, r)
        assert edge < x < edge + scale
        assert side * np.sign(there.a[r]) * found.slope[r] > 0


@pytest.mark.theorem("R12")
def test_the_walk_stays_on_its_branch():
    """From all of a gap the same two edges; long steps would cross a pole of L."""
    d, C, n = 40, 3, 20
    values = np.arange(1, d + 1.0) ** -0.3
    population = Population(
        (n,) * C,
        d,
        np.ones((C * n, C)),
        values,
        cross_covariance=np.linspace(0.2, 0.4, d),
        class_covariance=np.linspace(0.5, 1.5, d),
    )
    design = nested_design(population)
    gap, found = (750.0, 1450.0), []
    for x in np.linspace(*gap, 6).tolist():
        a = -design.traces / complex(x, 4 * x)
        for k in range(-2, 27, 2):
            made = fixed_point(design, complex(x, x * 2.0**-k), a)
            assert made is not None
            a = made.a
        made = fixed_point(design, x, a.real)
        assert np.all(made.slope > 0)
        ends = [fold(design, x, made, inside)[0] for inside in (500.0, 2000.0)]
        found.append(ends)
    assert np.all(np.ptp(found, axis=0) <= 4 * EDGE * np.max(found))
    assert 500 < np.min(found) < gap[0] < gap[1] < np.max(found) < 2000


def test_no_step_crosses_a_pole():
    """Where the correction is small and yet lands on another branch."""
    C, n, d = 4, 30, 60
    labels, rng = np.repeat(np.arange(C), n), np.random.default_rng(0)
    z = rng.standard_normal((C * n, C))
    z[np.arange(C * n), labels] += 1.5
    p = np.exp(z)
    w = p / p.sum(axis=1, keepdims=True) / len(p)
    exact, found = (
        predict(
            Population(
                (n,) * C,
                d,
                w,
                within,
                class_covariance=0.5,
                cross_covariance=0.3,
                score_consistent=True,
            )
        )
        for within in (1.0, np.ones(d))
    )
    assert len(exact.bands) == len(found.bands) == 2
    for one, other in zip(exact.bands, found.bands, strict=True):
        for end in ("lower", "upper"):
            x, y = getattr(one, end), getattr(other, end)
            assert abs(x - y) <= 4 * EDGE * x


def test_bands_of_few_low_rank_covariances_end():
    """Where x stands still along the branch and other a's do not."""
    rng, d, noise = np.random.default_rng(0), 40, []
    for c in (1, 2, 3):
        U = np.linalg.qr(rng.standard_normal((d, 2)))[0]
        noise.append((U * np.asarray([100.0, 10.0]) * c) @ U.T + np.eye(d) / 100)
    ones = np.ones((600, 1)) / 600
    made = predict(Population((200,) * 3, d, ones, tuple(noise)))
    assert sum(made.counts) == d
    assert len(made.bands) == 7
