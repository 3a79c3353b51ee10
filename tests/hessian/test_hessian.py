"""The Hessian against second-order jets at 50 digits, and its exact properties."""

import dataclasses
import itertools

import array_api_strict
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import backend, curvature, models, rounding
from refspec.hessian import assembly as hessian_module
from refspec.hessian import blocks as hessian_blocks
from refspec.hessian import hessian, hessian_vector_product, of_snapshot
from refspec.hessian.bounds import hessian_radius
from refspec.models import activations, operations

U = 2.0**-53
PARTS = ("hessian", "fisher", "residual")
FUNCTIONS = {
    "clip": lambda z: z if abs(z) < 1 else z / abs(z) + 0 * z,
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "hard_sigmoid": lambda z: (z + 3) / 6 if abs(z) < 3 else mpmath.mpf(z > 0) + 0 * z,
    "hard_swish": lambda z: z * (z + 3) / 6 if abs(z) < 3 else (z > 0) * z,
    "leaky_relu": lambda z: z if z > 0 else mpmath.mpf(0.01) * z,
    "log_sigmoid": lambda z: -mpmath.log1p(mpmath.exp(-z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "gelu_tanh": lambda z: (
        z * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + CUBIC * z * z * z))) / 2
    ),
    "identity": lambda z: z,
    "relu": lambda z: z if z > 0 else 0 * z,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "tanh": mpmath.tanh,
}
CUBIC = mpmath.mpf("0.044715")
number = np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])


class Jet:
    """A number with its gradient and Hessian in the P parameters, in mpmath."""

    def __init__(self, value, gradient, second):
        self.value, self.gradient, self.second = value, gradient, second

    def __add__(self, other):
        return Jet(
            self.value + other.value,
            self.gradient + other.gradient,
            self.second + other.second,
        )

    def __mul__(self, other):
        cross = np.outer(self.gradient, other.gradient)
        return Jet(
            self.value * other.value,
            self.value * other.gradient + other.value * self.gradient,
            self.value * other.second + other.value * self.second + cross + cross.T,
        )

    def through(self, function):
        """Chain rule, the derivatives of the function by mpmath's Taylor series."""
        value, slope, half = mpmath.taylor(function, self.value, 2)
        outer = np.outer(self.gradient, self.gradient)
        second = slope * self.second + 2 * half * outer
        return Jet(value, slope * self.gradient, second)


@mpmath.workdps(50)
def exact(network, X, labels, weights=None):
    """Hessian, Fisher and residual of the network by loops over jets, 50 digits."""
    theta = models.flatten(network)
    P, N = theta.size, len(X)
    zero, zeros = number(np.zeros(P)), number(np.zeros((P, P)))
    jets = [
        Jet(v, e, zeros) for v, e in zip(number(theta), number(np.eye(P)), strict=True)
    ]
    weights = np.full(N, 1 / N) if weights is None else weights
    totals = [zeros, zeros, zeros]
    for x, y, w in zip(X, labels, weights, strict=True):
        inputs = np.vectorize(lambda v: Jet(v, zero, zeros), otypes=[object])
        f = list(run(network, inputs(number(x)), iter(jets)))
        total = f[0].through(mpmath.exp)
        for other in f[1:]:
            total = total + other.through(mpmath.exp)
        minus = Jet(mpmath.mpf(-1), zero, zeros)
        loss = total.through(mpmath.log) + f[y] * minus
        p = [mpmath.exp(k.value) / total.value for k in f]
        fisher, residual = zeros, zeros
        for c, own in enumerate(f):
            residual = residual + (p[c] - (c == y)) * own.second
            for d, other in enumerate(f):
                A = p[c] * ((c == d) - p[d])
                fisher = fisher + A * np.outer(own.gradient, other.gradient)
        terms = (loss.second, fisher, residual)
        totals = [
            t + mpmath.mpf(float(w)) * x for t, x in zip(totals, terms, strict=True)
        ]
    return dict(zip(PARTS, [t.astype(float) for t in totals], strict=True))


def run(network, x, jets):
    """One sample of jets through the operations, by loops."""
    for operation in network.operations:
        kind = operation["op"]
        if kind in ("linear", "conv2d"):
            shape = network.parameters[operation["weight"]].shape
            rows = []
            for _ in range(shape[0]):
                W = [next(jets) for _ in range(int(np.prod(shape[1:])))]
                rows.append((W, next(jets) if operation["bias"] else None))
        if kind == "linear":
            x = np.asarray([affine(W, b, x) for W, b in rows])
        elif kind == "conv2d":
            (p, q), stride = operation["padding"], operation["stride"]
            still = x.flat[0] * Jet(
                mpmath.mpf(0), 0 * x.flat[0].gradient, 0 * x.flat[0].second
            )
            x = np.pad(x, ((0, 0), (p, p), (q, q)), constant_values=still)
            x = np.asarray(
                [
                    [[affine(W, b, cut.ravel()) for cut in row] for row in cuts]
                    for W, b in rows
                    for cuts in [windows(x, shape[2:], stride)]
                ]
            )
        elif kind == "avg_pool2d":
            kernel = operation["kernel"]
            share = Jet(
                1 / mpmath.mpf(int(np.prod(kernel))),
                0 * x.flat[0].gradient,
                0 * x.flat[0].second,
            )
            x = np.asarray(
                [
                    [
                        [sum(cut.ravel()[1:], cut.flat[0]) * share for cut in row]
                        for row in windows(channel[None], kernel, operation["stride"])
                    ]
                    for channel in x
                ]
            )
        elif kind == "max_pool2d":
            cuts = [
                windows(channel[None], operation["kernel"], operation["stride"])
                for channel in x
            ]
            x = np.asarray(
                [
                    [[max(cut.flat, key=lambda j: j.value) for cut in row] for row in y]
                    for y in cuts
                ]
            )
        elif kind == "flatten":
            x = x.ravel()
        else:
            function = FUNCTIONS[kind]
            x = np.vectorize(lambda v, g=function: v.through(g), otypes=[object])(x)
    return x


def affine(W, b, x):
    terms = [w * v for w, v in zip(W, x, strict=True)] + ([] if b is None else [b])
    return sum(terms[1:], terms[0])


def windows(x, kernel, stride):
    (h, w), (s, t) = kernel, stride
    return [
        [x[:, i : i + h, j : j + w] for j in range(0, x.shape[2] - w + 1, t)]
        for i in range(0, x.shape[1] - h + 1, s)
    ]


def norm(x):
    return float(np.linalg.norm(x, 2))


def perturbed(network, seed):
    theta = models.flatten(network)
    rng = np.random.default_rng(seed)
    return models.unflatten(network, theta + 0.5 * rng.normal(size=theta.shape))


def small_mlp(activation, seed=0, dims=(2, 2, 2, 2)):
    network = perturbed(
        models.mlp(dims, activation, rng=np.random.default_rng(seed)), seed
    )
    rng = np.random.default_rng(seed + 1)
    return network, rng.normal(size=(3, dims[0])), np.asarray([0, 1, 1])


def small_cnn(activation):
    rng = np.random.default_rng(7)
    chain = [
        {"op": "conv2d", "name": "c1", "weight": "c1", "bias": "b1"}
        | {"stride": [1, 2], "padding": [1, 0]},
        {"op": activation},
        {"op": "avg_pool2d", "kernel": [2, 2], "stride": [1, 1]},
        {"op": "conv2d", "name": "c2", "weight": "c2", "bias": None}
        | {"stride": [1, 1], "padding": [0, 0]},
        {"op": activation},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "weight": "W", "bias": "b"},
    ]
    shapes = {"c1": (2, 1, 2, 2), "b1": (2,), "c2": (1, 2, 2, 1), "b": (2,)}
    shapes["W"] = (2, 3)
    parameters = {k: rng.normal(size=v) for k, v in shapes.items()}
    X = rng.normal(size=(2, 1, 4, 4))
    return models.Network(chain, parameters), X, np.asarray([1, 0])


def small_pool(seed=7):
    """A convolution, the largest of every two of its outputs, a layer."""
    rng = np.random.default_rng(seed)
    chain = [
        {"op": "conv2d", "name": "c1", "weight": "c1", "bias": "b1"}
        | {"stride": [1, 1], "padding": [0, 0]},
        {"op": "max_pool2d", "kernel": [2, 1], "stride": [1, 1]},
        {"op": "tanh"},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "weight": "W", "bias": "b"},
    ]
    shapes = {"c1": (2, 1, 1, 2), "b1": (2,), "W": (2, 8), "b": (2,)}
    parameters = {k: rng.normal(size=v) for k, v in shapes.items()}
    X = rng.normal(size=(3, 1, 3, 3))
    return models.Network(chain, parameters), X, np.asarray([1, 0, 1])


def check(network, X, labels, weights=None, truth=None):
    """Residual over bound of the worst part; the bound has the jets' last rounding."""
    truth = truth or exact(network, X, labels, weights)
    radius = hessian_radius(network, X, labels, sample_weights=weights)
    ratios = []
    for part in PARTS:
        H = hessian(network, X, labels, part=part, sample_weights=weights)
        bound = radius + U * np.linalg.norm(truth[part])
        ratios.append(norm(H - truth[part]) / bound)
    return max(ratios)


@pytest.mark.parametrize("activation", sorted(operations.ACTIVATIONS))
def test_hessian_is_exact_for_every_activation(activation, monkeypatch):
    problem = small_mlp(activation)
    truth, radius = exact(*problem), hessian_radius(*problem)
    assert check(*problem, truth=truth) <= 1
    original = hessian_blocks._add_cross
    for distance in (2, 3):  # mutants: no delta (x) dh between near, or far layers

        def without(H, corner, S, reach, errors, layers, xp, distance=distance):
            errors = None if reach.ndim == distance else errors
            original(H, corner, S, reach, errors, layers, xp)

        with monkeypatch.context() as patch:
            patch.setattr(hessian_blocks, "_add_cross", without)
            assert check(*problem, truth=truth) > 1
    if activations.bends({"op": activation}):  # mutant: no second derivative
        value = operations.ACTIVATIONS[activation]

        def straight(z, xp):
            return (*value(z, xp)[:2], 0 * z)

        with monkeypatch.context() as patch:
            patch.setitem(operations.ACTIVATIONS, activation, straight)
            assert check(*problem, truth=truth) > 1
    for part, wrong in (("hessian", "fisher"), ("fisher", "hessian")):
        assert norm(hessian(*problem, part=wrong) - truth[part]) > radius


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_hessian_of_a_cnn_is_exact(activation, monkeypatch):
    problem = small_cnn(activation)
    truth = exact(*problem)
    assert check(*problem, truth=truth) <= 1
    eye = np.eye(models.flatten(problem[0]).size)
    radius = hessian_radius(*problem)
    assert norm(hessian_vector_product(*problem, eye) - truth["hessian"]) <= 2 * radius
    apply_adjoint, outer = hessian_module._apply_adjoint, hessian_module._outer

    def silent(step, V, errors, xp):  # mutant: tangents of errors without V'delta
        return 0 * apply_adjoint(step, V, errors, xp)

    def frozen(step, turned, _, tangent, xp):  # mutant: no delta (x) dh
        return outer(step, turned, None, tangent, xp)

    with monkeypatch.context() as patch:
        patch.setattr(hessian_module, "_apply_adjoint", silent)
        wrong = hessian_vector_product(*problem, eye)
        assert norm(wrong - truth["hessian"]) > 2 * radius
    with monkeypatch.context() as patch:
        patch.setattr(hessian_module, "_outer", frozen)
        assert check(*problem, truth=truth) > 1


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 4), max_size=3),
    st.data(),
    st.integers(1, 4),
    st.integers(2, 4),
)
def test_recursion_products_and_properties_agree(seed, hidden, data, N, C):
    """Two algorithms, G + E = H, symmetry to the bit, Weyl's interval."""
    rng = np.random.default_rng(seed)
    kinds = [data.draw(st.sampled_from(sorted(operations.ACTIVATIONS))) for _ in hidden]
    network = perturbed(models.mlp([3, *hidden, C], kinds, rng=rng), seed)
    X, labels = rng.normal(size=(N, 3)), rng.integers(0, C, N)
    weights = rng.uniform(size=N)
    radius = hessian_radius(network, X, labels, sample_weights=weights)
    P = models.flatten(network).size
    parts = {}
    for part in PARTS:
        H = hessian(network, X, labels, part=part, sample_weights=weights)
        assert np.array_equal(H, H.T)
        V = hessian_vector_product(
            network, X, labels, np.eye(P), part=part, sample_weights=weights
        )
        assert norm(H - V) <= 2 * radius
        parts[part] = H
    G, E, H = parts["fisher"], parts["residual"], parts["hessian"]
    assert norm(G + E - H) <= 3 * radius
    noise = rounding.eigensolver_radius(P, norm(H) + norm(G) + norm(E), U)
    shifts = np.linalg.eigvalsh(H) - np.linalg.eigvalsh(G)
    assert np.max(np.abs(shifts)) <= norm(E) + 3 * radius + 2 * noise
    assert np.linalg.eigvalsh(G)[0] >= -radius - noise


def test_fisher_is_the_snapshots_second_moment():
    network, X, labels = small_mlp("gelu", dims=(2, 3, 3))
    labels = np.asarray([2, 0, 1])
    seen = models.snapshot(network, X, labels)
    order = np.argsort(labels)
    rows = [
        (x.errors[:, :, 0, :, None] * x.features[:, 0, None, None, :]).reshape(3, 3, -1)
        for x in seen.layers
    ]
    g = np.concatenate(rows, axis=2)
    weights = seen.probabilities / 3
    G = np.einsum("nk,nki,nkj->ij", weights, g, g)
    bound = 2 * hessian_radius(network, X[order], labels[order])
    H = hessian(network, X[order], labels[order], part="fisher")
    assert norm(H - G) <= bound
    empirical = np.einsum("ni,nj->ij", g[np.arange(3), seen.labels], g[:, 0]) / 3
    assert norm(H - empirical) > bound


def test_softmax_regression_has_no_residual():
    rng = np.random.default_rng(0)
    network = perturbed(models.softmax_regression(4, 3), 1)
    X, labels = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)
    assert not np.any(hessian(network, X, labels, part="residual"))
    H = hessian(network, X, labels)
    assert np.array_equal(H, hessian(network, X, labels, part="fisher"))
    assert np.any(hessian(small_mlp("tanh")[0], X[:3, :2], [0, 1, 1], part="residual"))


def test_a_dead_relu_unit_has_a_zero_hessian():
    network, X, labels = small_mlp("relu", dims=(2, 3, 2))
    parameters = dict(network.parameters)
    parameters["linear1.bias"] = np.asarray([-100.0, 0.3, 0.2])
    network = models.Network(network.operations, parameters)
    H = hessian(network, X, labels)
    assert not np.any(H[:3]) and np.any(H[3:9])  # noqa: PT018
    assert not np.any(H[:, 9])  # the outgoing weight meets a zero feature
    assert check(network, X, labels) <= 1


def test_the_kink_of_relu_gets_no_certificate():
    network, X, labels = small_mlp("relu", dims=(2, 3, 2))
    X = 0 * X
    parameters = dict(network.parameters) | {"linear1.bias": np.zeros(3)}
    network = models.Network(network.operations, parameters)
    assert np.all(np.isfinite(hessian(network, X, labels)))
    assert hessian_radius(network, X, labels) == np.inf


def test_a_sum_of_nothing_has_a_certain_sign():
    """A window on the padding alone, without a bias: 0 whatever the weights are."""
    rng = np.random.default_rng(0)
    network = models.cnn((1, 3, 3), [2], 2, kernel=2, padding=2, pool=1, rng=rng)
    operations = [dict(x) for x in network.operations]
    operations[0]["bias"] = None
    parameters = {k: x for k, x in network.parameters.items() if k != "conv1.bias"}
    network = models.Network(operations, parameters)
    X, labels = rng.standard_normal((4, 1, 3, 3)), [0, 1, 0, 1]
    steps, _ = models.evaluation.forward(network, X)
    assert np.any(np.all(steps[0].features == 0, axis=2))
    assert 0 < hessian_radius(network, X, labels) < 2.0**-30
    # an image of zeros is no padding to a layer that has a bias
    biased = models.cnn((1, 3, 3), [2], 2, kernel=2, padding=2, pool=1, rng=rng)
    assert hessian_radius(biased, X, labels) == np.inf


def test_a_maximum_is_exact_where_it_is_certain(monkeypatch):
    """Of one entry; a tie of entries that parameters move has no certificate."""
    network, X, labels = small_pool()
    assert check(network, X, labels) <= 1
    whole, radius = hessian(network, X, labels), hessian_radius(network, X, labels)
    with monkeypatch.context() as patch:
        patch.setattr(hessian_blocks, "BUDGET", 1)  # a sample at a time
        assert norm(hessian(network, X, labels) - whole) <= 2 * radius
    assert hessian_radius(network, np.ones_like(X), labels) == np.inf
    first, pool, *rest = network.operations
    W = {"W": np.ones((2, 8))}
    turned = models.Network([pool, first, *rest], dict(network.parameters) | W)
    assert hessian_radius(turned, np.ones_like(X), labels) < np.inf  # of the inputs


def test_parts_of_several_samples_and_units_are_sums(monkeypatch):
    """Blocks of two layers, a sample and a unit at a time, of three samples at once."""
    network, X, labels = small_mlp("tanh", dims=(6, 6, 2))
    radius = hessian_radius(network, X, labels)
    whole = [hessian(network, X, labels, part=part) for part in PARTS]
    monkeypatch.setattr(hessian_blocks, "BUDGET", 1)
    assert hessian_blocks.samples_at_once(models.layer_shapes(network), 56) > 1
    for part, H in zip(PARTS, whole, strict=True):
        found = hessian(network, X, labels, part=part)
        assert norm(found - H) <= 2 * radius


def test_a_saturated_softmax_keeps_its_digits():
    """Probabilities underflow, or differ from 1 by less than a roundoff."""
    network = perturbed(models.softmax_regression(1, 3), 0)
    for scale in (1e3, 50.0):
        theta = scale * np.asarray([1.0, 0.0, 0.0, 0.0, -1.0, 0.0])
        at = models.unflatten(network, theta)
        X, labels = np.ones((1, 1)), np.asarray([0])
        H = hessian(at, X, labels)
        truth = exact(at, X, labels)["hessian"]
        bound = rounding.gamma(64 + 4 * scale, U) * np.exp(-scale)
        assert np.max(np.abs(H - truth)) <= bound  # 1 - p_0 is no subtraction
        assert scale > 700 or np.max(np.abs(truth)) > bound
    wrong = hessian(at, X, np.asarray([1]))  # confident and wrong: E may be large
    assert np.all(np.isfinite(wrong))


def test_two_classes_one_sample_and_absent_classes():
    network, X, _ = small_mlp("silu", dims=(2, 2, 2))
    assert check(network, X[:1], np.asarray([1])) <= 1
    network, X, _ = small_mlp("sigmoid", dims=(2, 2, 3))
    assert check(network, X[:2], np.asarray([2, 2])) <= 1
    assert check(network, X, np.asarray([0, 1, 2]), np.asarray([0.5, 0.0, 0.25])) <= 1


def test_activations_may_follow_each_other_and_end_the_network():
    network, X, labels = small_mlp("tanh", dims=(2, 2, 2))
    chain = [
        {"op": "softplus"},
        network.operations[0],
        {"op": "silu"},
        {"op": "flatten"},
        {"op": "tanh"},
        network.operations[2],
        {"op": "gelu"},
    ]
    assert check(models.Network(chain, network.parameters), X, labels) <= 1


@pytest.mark.parametrize("problem", [small_mlp("tanh"), small_cnn("tanh")])
def test_layers_pairs_and_chunks(problem, monkeypatch):
    network, X, labels = problem
    H = hessian(network, X, labels)
    shapes = models.layer_shapes(network)
    edges = np.cumsum([0] + [b * a for b, a in shapes.values()])
    first, second, third = (np.arange(s, e) for s, e in itertools.pairwise(edges))
    names = list(shapes)
    radius = hessian_radius(network, X, labels)
    for chosen, rows in (
        (names[1], second),
        ([names[0], names[2]], np.concatenate([first, third])),
        ([names[2], names[0]], np.concatenate([first, third])),
    ):
        block = hessian(network, X, labels, layers=chosen)
        assert norm(block - H[np.ix_(rows, rows)]) <= 2 * radius
        assert np.array_equal(block, block.T)
        v = np.random.default_rng(0).normal(size=(rows.size, 2))
        Hv = hessian_vector_product(network, X, labels, v, layers=chosen)
        assert norm(Hv - block @ v) <= (2 * radius + U * norm(block) * 40) * norm(v)
        one = hessian_vector_product(network, X, labels, v[:, 0], layers=chosen)
        assert norm((one - Hv[:, 0])[:, None]) <= 2 * radius * norm(v)
    monkeypatch.setattr(hessian_blocks, "BUDGET", 1)  # one sample, one unit at a time
    pieces = hessian(network, X, labels)
    assert norm(pieces - H) <= 2 * radius
    assert np.array_equal(pieces, pieces.T)
    monkeypatch.setattr(hessian_module, "BLOCK", 5)  # a layer's unit vectors in turns
    blocks = hessian(network, X, labels)
    assert norm(blocks - H) <= 2 * radius
    assert np.array_equal(blocks, blocks.T)


@pytest.mark.parametrize("problem", [small_mlp("gelu"), small_cnn("gelu_tanh")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_namespaces_and_dtypes(problem, dtype, asarray):
    network, X, labels = problem
    inputs = X.astype(dtype)
    given = {k: v.astype(dtype) for k, v in network.parameters.items()}
    # the exact inputs are those rounded to dtype
    wide = {k: v.astype(np.float64) for k, v in given.items()}
    at = models.Network(network.operations, wide)
    expected = hessian(at, inputs.astype(np.float64), labels)
    parameters = {k: asarray(v) for k, v in given.items()}
    other, Y = models.Network(network.operations, parameters), asarray(inputs)
    radius = hessian_radius(at, inputs.astype(np.float64), labels)
    radius = (radius + hessian_radius(other, Y, labels)) / 2
    H = hessian(other, Y, labels)
    assert H.dtype == Y.dtype
    assert np.array_equal(backend.to_host(H), backend.to_host(H).T)
    assert norm(backend.to_host(H) - expected) <= 2 * radius
    v = asarray(np.ones((expected.shape[0], 1), dtype))
    Hv = backend.to_host(hessian_vector_product(other, Y, labels, v))
    size = np.sqrt(expected.shape[0])
    assert norm(Hv - expected @ np.ones((expected.shape[0], 1))) <= 3 * radius * size


def test_gelu_tanh_is_not_steeper_than_the_lipschitz_constant():
    """Interval arithmetic on [-12, 12]; tails and others: theory/hessian.md."""
    iv, steps = mpmath.iv, 1200
    root, cubic = 2 * iv.sqrt(iv.mpf(2) / iv.pi), iv.mpf(44715) / 10**6
    edges = [mpmath.mpf(24 * k) / steps - 12 for k in range(steps + 1)]
    steepest = 0
    for low, high in itertools.pairwise(edges):
        z, square = (
            iv.mpf([low, high]),
            iv.mpf([min(low**2, high**2), max(low**2, high**2)]),
        )
        s = 1 / (1 + iv.exp(-root * z * (1 + cubic * square)))
        s1 = s * (1 - s)
        s2, s3 = s1 * (1 - 2 * s), s1 * (1 - 6 * s1)
        g1, g2, g3 = (
            root * (1 + 3 * cubic * square),
            6 * root * cubic * z,
            6 * root * cubic,
        )
        d1, d2 = s1 * g1, s2 * g1**2 + s1 * g2
        d3 = s3 * g1**3 + 3 * s2 * g1 * g2 + s1 * g3
        for value in (s + z * d1, 2 * d1 + z * d2, 3 * d2 + z * d3):
            steepest = max(steepest, abs(value).b)
    assert 1 < steepest <= activations.LIPSCHITZ  # 1 would not do


def test_a_snapshots_layers_are_in_its_own_order():
    """Beside the Fisher of the same layers, which is in that order too."""
    network, X, labels = small_mlp("tanh")
    s = models.snapshot(network, X, labels)
    turned = dataclasses.replace(s, layers=s.layers[::-1])
    radius = 2 * hessian_radius(network, X, labels)
    names = [x.name for x in turned.layers]
    for chosen in (None, names, names[:1], names[1]):
        H = of_snapshot(turned, chosen, part="fisher")
        one = [chosen] if isinstance(chosen, str) else chosen
        assert norm(H - curvature.fisher(turned, one).matrix()) <= radius
    other = of_snapshot(turned, names[::-1], part="fisher")
    assert not norm(other - curvature.fisher(turned).matrix()) <= radius


def test_what_is_refused():
    network, X, labels = small_mlp("tanh")
    for bad, message in (
        ({"part": "gauss"}, "got 'gauss'"),
        ({"layers": "fc"}, r"got 'fc'"),
        ({"layers": []}, r"got none"),
        ({"layers": ["linear1", "linear1"]}, "got 'linear1' twice"),
        ({"sample_weights": np.ones(2)}, r"got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            hessian(network, X, labels, **bad)
    with pytest.raises(ValueError, match=r"got values 0\.\.2"):
        hessian(network, X, np.asarray([0, 1, 2]))
    with pytest.raises(ValueError, match=r"P = 18 .* got \(17,\)"):
        hessian_vector_product(network, X, labels, np.ones(17))
    with pytest.raises(TypeError, match="mixture"):
        hessian_vector_product(network, X, labels, array_api_strict.ones(18))
