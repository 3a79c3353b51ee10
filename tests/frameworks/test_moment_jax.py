"""Any JAX classifier: its Fisher and Hessian against jax.jacrev and jax.hessian."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

from refspec import rounding
from refspec.exporters.jax import hessian, moment
from refspec.rows import forming_radius
from support.jax_networks import LABELS, NETWORKS, C, N, loader, network

jax.config.update("jax_enable_x64", True)
U = 2.0**-53
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def of_vector(function, W, inputs):
    """The logits as a function of one vector of the parameters; Flax's alone."""
    flax = isinstance(W, dict) and "params" in W
    trained = W["params"] if flax else W
    real = [x for x in jax.tree.leaves(trained) if hasattr(x, "dtype")]
    _, tree = jax.tree.flatten(trained)
    assert len(real) == tree.num_leaves or not flax
    vector, back = ravel_pytree(real)
    leaves, shape = jax.tree.flatten(trained)

    def logits(v):
        arrays = iter(back(v))
        full = [next(arrays) if hasattr(x, "dtype") else x for x in leaves]
        inner = jax.tree.unflatten(shape, full)
        return function({**W, "params": inner} if flax else inner, inputs)

    return logits, vector


def bound(found, J):
    """What both can be off by: the rows as measured, twice, and their products."""
    size = float(np.sum(J * J)) / N
    radius = 2 * forming_radius(found.rows, found.trace(), U)
    return radius + 2 * rounding.second_moment_radius(N * C + 64, size, U)


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_and_hessian_are_those_of_the_definition(name):
    function, W, inputs = network(name)
    found = moment(function, W, loader(inputs))
    logits, vector = of_vector(function, W, inputs)
    J, p = np.asarray(jax.jacrev(logits)(vector)), jax.nn.softmax(logits(vector))
    A = np.asarray(jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None])
    true = np.einsum("ncp,ncd,ndq->pq", J, A, J) / N
    limit = bound(found, J)
    assert np.linalg.norm(found.matrix() - true) <= limit
    assert not np.linalg.norm(found.matrix() * (1 + 2.0**-24) - true) <= limit
    assert sum(n for _, n in found.blocks) == len(vector) == found.shape[1]
    H = hessian(function, W, loader(inputs))

    def loss(v):
        return -jnp.mean(jax.nn.log_softmax(logits(v))[np.arange(N), LABELS])

    V = np.random.default_rng(0).standard_normal((H.size, 1))
    if name == "reverse mode only":
        return
    exact = jax.jvp(jax.grad(loss), (vector,), (jnp.asarray(V[:, 0]),))[1]
    limit = 2 * H.lost * np.linalg.norm(V)
    assert np.linalg.norm(H.dot(V)[:, 0] - exact) <= limit
    assert not np.linalg.norm(H.dot(V)[:, 0] * (1 + 2.0**-20) - exact) <= limit
