"""KFAC's placement of scalars in kfac-jax: its dense, repeated and convolution blocks.

Errors come from cotangents of zero perturbations of each map's output. Bounds as in
test_kfac_peers: gamma times chains of absolute weights, here through their norms.
kfac-jax 0.0.8 needs jax < 0.9 and is not in the `frameworks` extra: skipped without it.
"""

import numpy as np
import pytest

from refspec import Layer, rounding, snapshot
from refspec.kronecker.conventions import placement
from refspec.kronecker.kfac import kfac

jax = pytest.importorskip("jax")
kfac_jax = pytest.importorskip("kfac_jax")
jnp = jax.numpy

pytestmark = pytest.mark.filterwarnings("ignore")
U, C, T = 2.0**-53, 3, 4
LABELS = np.repeat(np.arange(C), (4, 2, 5))
N = len(LABELS)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def sequence(parameters, x, shifts):
    (w, b), (v, c) = parameters
    h = jnp.tanh(x @ w + b + shifts[0])
    return h.mean(axis=1) @ v + c + shifts[1], (x, h.mean(axis=1)[:, None])


def convolution(parameters, x, shifts):
    (w, b), (v, c) = parameters
    z = jax.lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    h = jnp.tanh(z + b + shifts[0].reshape(z.shape)).reshape(N, -1)
    x = jax.lax.conv_general_dilated_patches(
        x, (2, 2), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # patches come channel first, kernels channel last
    x = x.reshape(N, T, 2, 4).swapaxes(2, 3).reshape(N, T, 8)
    return h @ v + c + shifts[1], (x, h[:, None])


def build(kind):
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    if kind == "sequence":
        x, a, b, last, model = draw((N, T, 5)), (5,), 4, 4, sequence
    else:
        x, a, b, last, model = draw((N, 3, 3, 2)), (2, 2, 2), 3, 3 * T, convolution
    first = (jnp.asarray(draw((*a, b))), jnp.asarray(draw(b)))
    second = (jnp.asarray(draw((last, C)) / 4), jnp.asarray(draw(C)))
    shifts = (jnp.zeros((N, T, b)), jnp.zeros((N, C)))
    return model, (first, second), jnp.asarray(x), shifts


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
@pytest.mark.parametrize("kind", ["sequence", "convolution"])
def test_kfac_jax(kind, fisher):
    model, parameters, x, shifts = build(kind)

    def loss(parameters, data):
        logits, _ = model(parameters, data[0], (jnp.zeros_like(shifts[0]), 0.0))
        kfac_jax.register_softmax_cross_entropy_loss(logits, targets=data[1])
        picked = jax.nn.log_softmax(logits)[jnp.arange(N), data[1]]
        return -jnp.mean(picked)

    mode = {"exact": "fisher_exact"}.get(fisher, "fisher_empirical")
    estimator = kfac_jax.BlockDiagonalCurvature(loss, default_estimation_mode=mode)
    arguments = (parameters, (x, jnp.asarray(LABELS)))
    key = jax.random.PRNGKey(0)
    state = estimator.init(key, arguments, None, None)
    state = estimator.update_curvature_matrix_estimate(
        state, 0.0, 1.0, 0.0, N, key, arguments
    )

    (logits, features), back = jax.vjp(lambda e: model(parameters, x, e), shifts)
    p = jax.nn.softmax(logits)
    rest = jax.tree.map(jnp.zeros_like, features)
    errors = [[], []]
    for label in range(C):
        (e,) = back((p - jnp.eye(C)[label], rest))
        errors[0].append(np.asarray(e[0]))
        errors[1].append(np.asarray(e[1])[:, None])
    layers = []
    for i in (0, 1):
        h = np.asarray(features[i])
        h = np.concatenate([h, np.ones((*h.shape[:2], 1))], axis=2)
        layers.append(Layer(str(i), h, np.stack(errors[i], axis=1)))
    s = snapshot(layers, LABELS, probabilities=np.asarray(p))

    found = {}
    for block, block_state in zip(estimator.blocks, state.blocks_states, strict=True):
        right, left = (np.asarray(f.value) for f in block_state.factors)
        scale = block.fixed_scale() * float(block.state_dependent_scale(block_state))
        found[left.shape[0], right.shape[0]] = left, right, scale
    # chains: errors through the last weights, whose absolute norm bounds them
    weight = 1 + float(jnp.sum(jnp.abs(parameters[1][0])))
    k = 4 * N * C * T + 8 * (weight + float(jnp.max(jnp.abs(logits)))) + 400
    for layer in layers:
        name = {"sequence": "kfac_jax_seq", "convolution": "kfac_jax"}[kind]
        shape = layer.errors.shape[3], layer.features.shape[2]
        positions = layer.features.shape[1]
        left, right, scale = found[shape]
        ours = kfac(s, layer.name, fisher=fisher, convention=name)
        how = placement(name, "expand", fisher, N=N, T=positions, columns=C - 1)
        assert scale == how.block
        g = rounding.gamma(k, U) * weight**2
        for mine, theirs, size in (
            (ours.left, left, positions * C * how.left),
            (ours.right, right, float(np.trace(ours.right))),
        ):
            assert np.linalg.norm(mine - theirs) <= g * size
            assert np.linalg.norm(2 * mine - theirs) > g * size
