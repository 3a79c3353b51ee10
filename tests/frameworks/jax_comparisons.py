"""One JAX classifier through `moment` and `hessian`, against jacrev and jvp of grad."""

import jax
import numpy as np
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

from refspec import coverage, curvature, rounding
from refspec.exporters.checking import path_length
from refspec.exporters.jax import export, hessian, moment
from refspec.rows import forming_radius
from support.jax_networks import LABELS, C, N, loader, network

U = 2.0**-53


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


def compare(name):
    """Return the moment, and (distance, bound) of Fisher and Hessian, relative.

    A Hessian that is refused is its sentence. Float64 must be on.
    """
    function, W, inputs = network(name)
    found = moment(function, W, loader(inputs))
    fisher = compare_fisher(found, function, W, inputs)
    logits, vector = of_vector(function, W, inputs)
    try:
        H = hessian(function, W, loader(inputs))
        curved = compare_hessian(H, logits, vector)
    except ValueError as error:
        curved = str(error)
    return found, fisher, curved


def compare_fisher(found, function, W, inputs):
    """Return (distance, bound) of a moment to the definition, relative."""
    logits, vector = of_vector(function, W, inputs)
    J = np.asarray(jax.jit(jax.jacrev(logits))(vector))
    p = jax.nn.softmax(jax.jit(logits)(vector))
    A = np.asarray(jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None])
    true = np.einsum("ncp,ncd,ndq->pq", J, A, J) / N
    # what both can be off by: the rows as measured, twice, and their products
    bound = 2 * forming_radius(found.rows, found.trace(), U)
    size = float(np.sum(J * J)) / N
    bound += 2 * rounding.second_moment_radius(N * C + 64, size, U)
    size = np.linalg.norm(true)
    return float(np.linalg.norm(found.matrix() - true) / size), bound / size


def compare_export(name):
    """Compare the Gram matrix of the rows of an export, in no order of parameters.

    Return what it covers and (distance, bound), or the sentence that refuses it.
    """
    function, W, inputs = network(name)
    blocks = moment(function, W, loader(inputs)).blocks
    try:
        made = export(function, W, loader(inputs), None, progress=False)
    except ValueError as error:
        return str(error)
    seen = coverage.of_snapshot(made)
    kept = np.repeat(
        [n not in seen.left_out for n, _ in blocks], [n for _, n in blocks]
    )
    assert kept.sum() == seen.parameters
    logits, vector = of_vector(function, W, inputs)
    J = np.asarray(jax.jit(jax.jacrev(logits))(vector))[:, :, kept]
    p = np.asarray(jax.nn.softmax(jax.jit(logits)(vector)))
    order = np.argsort(LABELS, kind="stable")
    rows = np.sqrt(p / N)[:, :, None] * (np.einsum("ic,icp->ip", p, J)[:, None] - J)
    rows = rows[order].reshape(N * C, -1)
    true, found = rows @ rows.T, np.asarray(curvature.fisher(made).gram())
    path = path_length(x.shape for x in jax.tree.leaves(W) if np.ndim(x) == 2)
    size = np.einsum("ic,icp->ip", p, np.abs(J))[:, None] + np.abs(J)
    gamma = rounding.gamma(8 * path + 8 * int(kept.sum()), U)
    bound = gamma * float(np.sum(p[:, :, None] / N * size**2))
    norm = np.linalg.norm(true)
    return seen, (float(np.linalg.norm(found - true) / norm), float(bound / norm))


def compare_hessian(H, logits, vector):
    """Compare a product with that of the framework, where it has one."""

    def loss(v):
        return -jnp.mean(jax.nn.log_softmax(logits(v))[np.arange(N), LABELS])

    v = np.random.default_rng(0).standard_normal(H.size)
    found = H.dot(v[:, None])[:, 0]
    product = jax.jit(lambda x, y: jax.jvp(jax.grad(loss), (x,), (y,))[1])
    try:
        true = product(vector, v)
    except TypeError:  # no forward mode
        true = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), v))(vector)
    size = float(np.linalg.norm(true))
    bound = 2 * H.lost * np.linalg.norm(v)
    return float(np.linalg.norm(found - true) / size), float(bound / size)
