"""Worlds show their population: exactly where algebra says so, else by chi-square."""

import math

import array_api_strict
import numpy as np
import pytest
import scipy.special

from refspec import backend, curvature, random_matrix, rounding, spectra, synthetic
from refspec.populations import KroneckerPopulation, Population, stacked
from refspec.synthetic import expectations, geometry, planted

U = 2.0**-53


def law(sizes, K, d, within=1.0, **given):
    """A population whose weights a world replaces."""
    return Population(tuple(sizes), d, np.ones((sum(sizes), K)), within, **given)


NAMESPACES = [None, np, array_api_strict]


def inside(value, dof):
    """Is value between the quantiles of chi-square at FAILURE / 2?"""
    low = 2 * scipy.special.gammaincinv(dof / 2, rounding.FAILURE / 2)
    high = 2 * scipy.special.gammainccinv(dof / 2, rounding.FAILURE / 2)
    return low <= value <= high


def traces(values, w, labels):
    """Traces of the four levels, by their definitions."""
    C, out = w.shape[1], np.zeros(4)
    for c in range(C):
        x, v, off = values[c == labels], w[c == labels][:, :, None], np.arange(C) != c
        mass = v.sum(axis=0)
        cross = (v * x).sum(axis=0) / mass
        center = (mass * cross)[off].sum(axis=0) / mass[off].sum()
        out[0] += mass[c, 0] * np.sum(cross[c] ** 2)
        out[1] += mass[off].sum() * np.sum(center**2)
        out[2] += np.sum(mass[off] * (cross[off] - center) ** 2)
        out[3] += np.sum(v * (x - cross) ** 2)
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_levels_of_a_balanced_world_are_chi_square(seed):
    """random_matrix (1): independent Wisharts; C(C-2) cross rows, not C(C-1)."""
    C, n, b, s1, s2, s3 = 6, 10, 400, 0.3, 0.2, 1.0
    errors = law([n] * C, C, b, s3, class_covariance=s1, cross_covariance=s2)
    world = planted({"x": errors}, rng=np.random.default_rng(seed))
    w, labels = world.probabilities / (n * C), world.snapshot.labels
    found = traces(world.snapshot.layers[0].errors[:, :, 0, :], w, labels) * n * C * C
    t3, t2 = s3, n * s2 + s3
    t1 = n * (C - 1) * s1 + t2
    scales = np.asarray([n * s1 + t2, t1, t2, t3])
    dofs = b * np.asarray([C, C, C * (C - 2), (n - 1) * C * C])
    assert all(inside(v, k) for v, k in zip(found / scales, dofs, strict=True))
    assert not inside(found[2] / t2, b * C * (C - 1))
    assert not inside(found[1] / t2, b * C)
    # and the closed form is these means: E = scale dof
    levels = synthetic.expected_levels(world, "x")[1]
    bound = rounding.gamma(40 * w.size, U) * float(sum(scales * dofs))
    for k, name in enumerate(levels):
        exact = scales[k] * dofs[k]
        assert abs(np.trace(levels[name]) * n * C * C - exact) <= bound


def consistent_world(dtype, xp, rng):
    C, counts = 4, [3, 1, 5, 2]
    labels = np.repeat(range(C), counts)
    p = geometry.softmax_outputs(labels, C, confidence=2.0, spread=1.0, rng=rng)
    means = geometry.means_of_gram(geometry.simplex_gram(C, 3.0), 5, rng=rng)
    errors = law(counts, C, 5, class_means=means, score_consistent=True)
    return planted({"x": errors}, probabilities=p, rng=rng, dtype=dtype, xp=xp)


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scores_vanish_for_every_sample(dtype, xp):
    snapshot = consistent_world(dtype, xp, np.random.default_rng(0)).snapshot
    u = rounding.unit_roundoff(snapshot.probabilities)
    p = backend.to_host(snapshot.probabilities).astype(np.float64)[:, :, None]
    errors = backend.to_host(snapshot.layers[0].errors)[:, :, 0, :].astype(np.float64)
    bound = rounding.gamma(p.shape[1] + 4, u) * np.sum(p * np.abs(errors), axis=1)
    assert np.all(np.abs(np.sum(p * errors, axis=1)) <= bound)
    wrong = np.sum(np.roll(p, 1, axis=1) * errors, axis=1)
    assert not np.all(np.abs(wrong) <= bound)


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_seed_gives_one_world_everywhere(dtype, xp):
    world = consistent_world(dtype, xp, np.random.default_rng(1))
    plain = consistent_world("float64", None, np.random.default_rng(1))
    for x, y in (
        (world.snapshot.layers[0].errors, plain.snapshot.layers[0].errors),
        (world.snapshot.layers[0].features, plain.snapshot.layers[0].features),
        (world.snapshot.probabilities, plain.snapshot.probabilities),
    ):
        assert str(x.dtype).endswith(dtype)
        assert np.array_equal(backend.to_host(x), y.astype(dtype))
    if xp is not None:
        xp.sum(world.snapshot.layers[0].errors)  # it is an array of that namespace


def test_planted_means_by_chi_square():
    """n |mean - m|^2 / S is chi-square, for every class and cross class."""
    C, n, b = 3, 20, 200
    rng = np.random.default_rng(2)
    means = rng.standard_normal((C, C, b))
    errors = law([n] * C, C, b, 4.0, cross_means=means)
    features = law([n] * C, 1, b, class_means=means[0], global_mean=np.ones(b))
    world = planted({"x": KroneckerPopulation(errors, features)}, rng=rng)
    layer = world.snapshot.layer("x")
    got = layer.errors[:, :, 0, :].reshape(C, n, C, b).mean(axis=1)
    assert inside(n * np.sum((got - means) ** 2) / 4, C * C * b)
    assert not inside(n * np.sum((got - means.swapaxes(0, 1)) ** 2) / 4, C * C * b)
    got = layer.features[:, 0].reshape(C, n, b).mean(axis=1)
    assert inside(n * np.sum((got - means[0] - 1) ** 2), C * b)
    assert not inside(n * np.sum((got - means[0]) ** 2), C * b)


@pytest.mark.parametrize("coupling", [0.0, 0.6, -0.6, 1.0, -1.0])
def test_coupling_by_hoeffding(coupling):
    """Scales s, t are visible in how often both noises are short: a known mean."""
    N, d = 40000, 3
    sizes = [N // 2] * 2
    both = KroneckerPopulation(law(sizes, 2, d), law(sizes, 1, d), coupling)
    world = planted({"x": both}, rng=np.random.default_rng(3))
    layer = world.snapshot.layer("x")
    # P(chi-square_d s <= d), both at once: a bounded statistic of known mean
    size = math.sqrt(abs(coupling))

    def below(s):
        return scipy.special.gammainc(d / 2, d / (2 * s)) if s else 1.0

    states = [(1 + size, 1 + np.sign(coupling) * size)]
    states.append((1 - size, 1 - np.sign(coupling) * size))
    small = np.sum(layer.features[:, 0] ** 2, axis=1) <= d
    quiet = np.sum(layer.errors[:, 0, 0] ** 2, axis=1) <= d
    bound = math.sqrt(math.log(2 / rounding.FAILURE) / (2 * N))
    joint = sum(below(s) * below(t) for s, t in states) / 2
    apart = sum(below(s) for s, _ in states) * sum(below(t) for _, t in states) / 4
    assert abs(np.mean(small & quiet) - joint) <= bound
    off = abs(sum(s * t for s, t in states) / 2 - 1 - coupling)
    assert off <= rounding.gamma(16, U) * 4
    if coupling:
        assert not abs(np.mean(small & quiet) - apart) <= bound


def test_orthogonal_world_has_its_groups():
    world = synthetic.worlds.orthogonal(
        3,
        4,
        5,
        2,
        rng=np.random.default_rng(4),
        error_norm=2.0,
        feature_norm=3.0,
        error_noise=0.5,
        feature_noise=0.25,
        coupling=0.5,
    )
    G = synthetic.expected_fisher(world)
    exact = np.sort(
        np.repeat(
            [g.value for g in world.groups], [g.multiplicity for g in world.groups]
        )
    )
    size = float(np.linalg.norm(G))
    # the frames are orthonormal up to Householder QR, the Gram matrices likewise
    bound = rounding.eigensolver_radius(20, size, U) + rounding.gamma(400, U) * 4 * size
    assert np.max(np.abs(np.linalg.eigvalsh(G) - exact)) <= bound
    uncoupled = G - expectations.fisher_coupling(world.populations["orthogonal"])
    assert not np.max(np.abs(np.linalg.eigvalsh(uncoupled) - exact)) <= bound


def test_several_layers_and_depth():
    means = geometry.means_of_gram(geometry.simplex_gram(3, 1.0), 4)
    sizes = [2, 3, 4]
    features = law(sizes, 1, 5, class_covariance=2.0, global_mean=np.ones(5))
    both = KroneckerPopulation(law(sizes, 3, 4, class_means=means), features)
    layers = synthetic.worlds.deepened(both, [0.5, 1.0, 2.0], "fc")
    world = planted(layers, rng=np.random.default_rng(5))
    assert [x.name for x in world.snapshot.layers] == ["fc1", "fc2", "fc3"]
    assert synthetic.expected_fisher(world).shape == (60, 60)
    between = [
        np.trace(synthetic.expected_levels(world, x)[1]["between_class"])
        for x in layers
    ]
    assert between[0] < between[1] < between[2]
    found = [x.features for x in layers.values()]
    assert [x.class_covariance for x in found] == [0.5, 2.0, 8.0]
    assert all(np.array_equal(x.global_mean, np.ones(5)) for x in found)
    silent = synthetic.worlds.deepened(both, [0.0])["layer1"]
    assert (silent.errors.class_kind, silent.features.class_kind) == ("absent",) * 2


def test_features_are_shared_by_the_cross_classes():
    errors = law([2] * 3, 3, 2)
    both = KroneckerPopulation(errors, law([2] * 3, 1, 4))
    layer = planted({"x": both}, rng=np.random.default_rng(6)).snapshot.layers[0]
    assert layer.features.shape == (6, 1, 4)
    assert layer.errors.shape == (6, 3, 1, 2)
    bare = planted({"x": errors}, rng=np.random.default_rng(6))
    assert np.all(bare.snapshot.layers[0].features == 1)


def test_a_world_carries_its_populations():
    errors, p = law([2, 3], 2, 3, (1.0, 2.0)), geometry.confusion(2, 0.25)
    layers = {"full": KroneckerPopulation(errors, law([2, 3], 1, 4)), "bare": errors}
    world = planted(layers, rng=np.random.default_rng(7), probabilities=p)
    full = world.population("full")
    assert (full.dimension, full.errors.sizes) == (12, (2, 3))
    assert np.all(full.features.weights == 1 / 5)
    assert np.array_equal(full.errors.weights, p[world.snapshot.labels] / 5)
    assert world.population("bare").within == (1.0, 2.0)
    with pytest.raises(ValueError, match="got 'none'"):
        world.population("none")


def test_layers_together():
    """A nested design again: its draws have its law, its blocks are the layers."""
    recipe = synthetic.Recipe(classes=3, dim=30, per_class=40, gains=(1.0, 2.0))
    world = recipe.plant()
    joint = world.together()
    assert joint.dimension == 60
    assert joint.within_covariance == 1.0
    for k, layer in enumerate(world.populations.values()):
        own = joint.class_means[:, 30 * k : 30 * (k + 1)]
        assert np.array_equal(own, layer.class_means)
    made = random_matrix.predict(joint)
    values = spectra.spectrum(curvature.fisher(world.snapshot))
    found = random_matrix.discrepancy(made, values)
    assert found.distance <= 4 / 60
    assert np.max(np.abs(found.scores)) <= 4
    random = synthetic.Recipe(
        classes=3, dim=4, per_class=5, means="random", gains=(1.0, 2.0)
    )
    spread = random.plant().together().class_covariance
    assert np.all(spread[:4] * 4 == spread[4:])
    layer = synthetic.Recipe(classes=2, dim=3, feature_dim=4, gains=(1.0, 2.0))
    with pytest.raises(ValueError, match="in 2 of 2"):
        layer.plant().together()


def test_full_covariances_together():
    S = np.asarray([[2.0, 1.0], [1.0, 2.0]])
    one, two = law([2, 3], 2, 2, S), law([2, 3], 2, 1, (0.5, 3.0))
    joint = stacked([one, two])
    assert joint.within[0].tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0.5]]
    assert joint.within[1].tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 3]]
    assert joint.class_means is None
    assert joint.class_covariance is None
    with pytest.raises(ValueError, match="share class sizes"):
        stacked([one, law([3, 2], 2, 1)])


def test_weights_imply_the_probabilities():
    w = np.asarray([[3.0, 1.0], [1.0, 1.0], [0.5, 1.5]])
    made = planted({"x": Population((1, 2), 1, w, 1.0)}, rng=np.random.default_rng(8))
    assert made.probabilities.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
    assert np.array_equal(made.populations["x"].weights, made.probabilities / 3)


def zero_diagonal():
    return np.asarray([[0.0, 1.0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: planted({}, rng=rng), r"got .* of \[\]"),
        (
            lambda rng: planted(
                {"x": law([1, 1], 2, 1), "y": law([2, 1], 2, 1)}, rng=rng
            ),
            r"\(2, 1\)",
        ),
        (lambda rng: planted({"x": law([1, 1], 1, 1)}, rng=rng), r"\(\(1, 1\), 1\)"),
        (
            lambda rng: planted(
                {"x": law([1, 1], 2, 1)}, rng=rng, probabilities=np.full((2, 2), 0.4)
            ),
            "off by 0.2",
        ),
        (
            lambda rng: planted(
                {"x": law([1, 1], 2, 1, score_consistent=True)},
                rng=rng,
                probabilities=zero_diagonal(),
            ),
            "got 0",
        ),
        (
            lambda rng: planted(
                {"x": Population((1, 1), 1, np.diag([1.0, 0.0]), 1.0)}, rng=rng
            ),
            "got 1 that do",
        ),
        (
            lambda rng: planted({"x": law([1, 1], 2, 1)}, rng=rng, dtype="float16"),
            "got 'float16'",
        ),
        (lambda _: synthetic.worlds.deepened(law([1, 1], 2, 1), []), r"got \[\]"),
        (lambda rng: synthetic.worlds.orthogonal(3, 2, 3, 1, rng=rng), "b = 2, a = 3"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
