"""Each strategy finds its known hard examples, and shrinks them to simple ones.

If a strategy stops producing one of these, every property test that draws from it has
silently become weaker.
"""

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import Phase, find, settings

from refspec import coordinates, curvature, rounding, structure
from refspec import strategies as rst
from refspec.populations import as_kronecker

TINY = np.finfo(float).smallest_normal
U = 2.0**-53


def search(strategy, predicate, *, shrink=False):
    phases = [Phase.generate, *[Phase.shrink] * shrink]
    how = settings(max_examples=1000, phases=phases, database=None)
    return find(strategy, predicate, settings=how, random=Random(0))


def scores(snapshot):
    """Largest sum_c' p delta of a layer, over its bound."""
    p, worst = snapshot.probabilities, 0.0
    C = p.shape[1]
    for layer in snapshot.layers:
        terms = p[:, :, None, None] * layer.errors
        gap = np.abs(terms.sum(axis=1))
        # J (p - e_c') is a sum of C products for each entry, then summed over c'
        size = np.abs(layer.errors).max(axis=1) * C
        bound = rounding.gamma(2 * C + 4, U) * size + TINY
        worst = max(worst, float((gap / bound).max()))
    return worst


def cell_mass(snapshot):
    return structure.cell_norms(curvature.fisher(snapshot))


def off_mass(snapshot):
    """sum_{c' != c} p_{c,c'}, the class with the least."""
    mass = cell_mass(snapshot) ** 2
    return (mass * (1 - np.eye(len(mass)))).sum(axis=1).min()


def first(world):
    """The errors of the first layer."""
    return as_kronecker(world.populations["layer1"]).errors


HARD = {
    "sizes: unequal": (rst.samples.class_sizes(), lambda n: len(set(n)) == len(n)),
    "sizes: one sample in a class": (
        rst.samples.class_sizes(),
        lambda n: 1 in n and max(n) > 2,
    ),
    "sizes: two classes": (rst.samples.class_sizes(), lambda n: len(n) == 2),
    "labels: unsorted": (
        rst.samples.labels(shuffled=True),
        lambda y: (np.diff(y) < 0).any(),
    ),
    "weights: zero": (rst.samples.sample_weights(3), lambda s: (s == 0).sum() == 2),
    "probabilities: zero": (rst.probabilities(2, 3), lambda p: p.min() == 0),
    "probabilities: one-hot": (rst.probabilities(2, 3), lambda p: (p == 1).sum() == 2),
    "probabilities: lost in 1 - p": (
        rst.probabilities(1, 3),
        lambda p: p.max() == 1 and (p > 0).all(),
    ),
    "probabilities: subnormal": (
        rst.probabilities(1, 3),
        lambda p: ((p > 0) & (p < TINY)).any(),
    ),
    "probabilities: confidently wrong": (
        rst.probabilities(2, 2, labels=np.array([0, 1])),
        lambda p: p[0, 0] < U and p[1, 1] > 0.9,
    ),
    "class arrays: empty cell": (
        rst.class_arrays(cross=True),
        lambda x: (x.weights[: x.offsets[1], 1] == 0).all() and x.weights.any(),
    ),
    "class arrays: d < C": (
        rst.class_arrays(cross=True),
        lambda x: x.values.shape[2] < x.values.shape[1],
    ),
    "class arrays: N < d": (
        rst.class_arrays(),
        lambda x: x.values.shape[0] < x.values.shape[2],
    ),
    "snapshots: a class of weight zero": (
        rst.snapshots(),
        lambda s: (s.sample_weights[: s.offsets[1]] == 0).all(),
    ),
    "snapshots: no mis-mass": (rst.snapshots(), lambda s: off_mass(s) == 0),
    "snapshots: tiny mis-mass": (
        rst.snapshots(),
        lambda s: 0 < off_mass(s) < U**2,
    ),
    "snapshots: positions and a bias": (
        rst.snapshots(),
        lambda s: any(
            x.features.shape[1] > 1 and (x.features[:, :, -1] == 1).all()
            for x in s.layers
        ),
    ),
    "snapshots: fewer samples than parameters": (
        rst.snapshots(),
        lambda s: s.probabilities.size < sum(x.parameters for x in s.layers),
    ),
    "snapshots: repeated eigenvalue": (
        rst.snapshots(exact=True),
        lambda s: repeated(curvature.features(s, "layer1").matrix()),
    ),
    "snapshots: errors without score identity": (
        rst.snapshots(scored=False, allow_zero=False),
        lambda s: scores(s) > 1,
    ),
    "snapshots: the Gram side": (
        rst.snapshots(),
        lambda s: coordinates.coordinates(curvature.fisher(s)).side == "dual",
    ),
    "networks: convolution": (
        rst.networks(),
        lambda n: any(x["op"] == "conv2d" for x in n.operations),
    ),
    "networks: pooling without bias": (
        rst.networks(convolutions=True),
        lambda n: (
            any(x["op"] == "avg_pool2d" for x in n.operations)
            and n.operations[0]["bias"] is None
        ),
    ),
    "networks: dead relu layer": (
        rst.labelled_networks(convolutions=False),
        lambda x: (
            any(o["op"] == "relu" for o in x.network.operations)
            and not x.snapshot().layers[0].errors.any()
        ),
    ),
    "networks: saturated softmax": (
        rst.labelled_networks(),
        lambda x: x.snapshot().probabilities.min() == 0,
    ),
    "worlds: coupled": (
        rst.worlds(),
        lambda w: any(as_kronecker(x).coupling < 0 for x in w.populations.values()),
    ),
    "worlds: no noise": (
        rst.worlds(),
        lambda w: not np.any(first(w).within_covariance),
    ),
    "worlds: heavy tails": (
        rst.worlds(),
        lambda w: first(w).noise == "student",
    ),
    "worlds: score-consistent and nearly certain": (
        rst.worlds(score_consistent=True),
        lambda w: w.probabilities.max() > 1 - 2 * U,
    ),
    "matrices: gap below rounding": (
        rst.symmetric_matrices(kinds=("clustered",)),
        lambda m: ((gaps(m) > 0) & (gaps(m) < 4 * U)).any(),
    ),
    "matrices: repeated": (
        rst.symmetric_matrices(),
        lambda m: m.values[0] > 0 and (gaps(m) == 0).any(),
    ),
    "matrices: condition beyond 1 / u": (
        rst.symmetric_matrices(positive=True),
        lambda m: m.values[-1] > 0 and m.values[0] > m.values[-1] / U,
    ),
    "matrices: rank-deficient, not diagonal": (
        rst.symmetric_matrices(positive=True),
        lambda m: (
            m.values[-1] == 0 < m.values[0]
            and np.count_nonzero(m.matrix) == m.matrix.size
        ),
    ),
    "matrices: indefinite": (
        rst.symmetric_matrices(),
        lambda m: m.values[0] > 0 > m.values[-1],
    ),
}


def gaps(m):
    return -np.diff(m.values)


def repeated(matrix):
    values = np.linalg.eigvalsh(matrix)[::-1]
    radius = rounding.eigensolver_radius(len(values), abs(values[0]), U)
    pairs = itertools.pairwise(values)
    return any(x - y <= 2 * radius < y for x, y in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_finds(name):
    strategy, predicate = HARD[name]
    assert predicate(search(strategy, predicate))


@pytest.mark.slow
def test_sizes_and_entries_shrink():
    """Two layers with a non-zero gradient: one sample a class, one parameter each."""
    found = search(
        rst.snapshots(),
        lambda s: len(s.layers) == 2 and all(x.errors.any() for x in s.layers),
        shrink=True,
    )
    assert found.offsets == (0, 1, 2)
    assert [x.parameters for x in found.layers] == [1, 1]
    assert found.probabilities.tolist() == [[0.5, 0.5]] * 2
    assert found.sample_weights.tolist() == [0.5, 0.5]


def test_matrices_shrink():
    found = search(rst.symmetric_matrices(), lambda m: m.values[-1] < 0, shrink=True)
    assert found.matrix.tolist() == [[-1.0]]
