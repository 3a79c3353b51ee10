"""Test your spectral density against refspec: Lanczos quadrature of a Hessian in JAX.

The Hessian-vector product is JAX's, the quadrature matfree's if it is installed and
thirty lines of JAX if not; refspec knows every eigenvalue. Needs refspec[jax].
"""

# %% A trained network as plain data: refspec's, or an export of yours
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from refspec import models
from refspec.models.training import fit
from refspec.testing import assert_density, assert_operator

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 6)), np.repeat(np.arange(4), 10)
X = X + 2 * np.eye(4, 6)[y]
network = fit(models.mlp([6, 8, 4], "tanh", rng=rng), X, y, steps=20)
snapshot = models.snapshot(network, X, y)

# %% The loss in JAX, its parameters in the order of a flattened flax tree
W = network.parameters
tree = {
    name: {"bias": W[f"{name}.bias"], "kernel": W[f"{name}.weight"].T}
    for name in ("linear1", "linear2")
}
flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, tree))


def loss(vector):
    """Mean cross-entropy."""
    one, two = (unravel(vector)[x] for x in ("linear1", "linear2"))
    h = jnp.tanh(X @ one["kernel"] + one["bias"])
    log_p = jax.nn.log_softmax(h @ two["kernel"] + two["bias"])
    return -jnp.mean(log_p[jnp.arange(len(y)), y])


@jax.jit
def product(v):
    """Return Hessian times v."""
    return jax.jvp(jax.grad(loss), (flat,), (v,))[1]


# %% First the operator: it is refspec's Hessian
passed = assert_operator(product, snapshot, of="hessian", order="jax", like=flat)
print(passed.statement)

# %% Then the quadrature, of k steps from n probes
k, n = 16, 60
probes = np.random.default_rng(1).standard_normal((flat.size, n))


def plain(start):
    """Return the tridiagonal matrix of k steps of Lanczos."""
    q, before, beta, alphas, betas = start / np.linalg.norm(start), 0, 0, [], []
    for _ in range(k):
        v = np.asarray(product(jnp.asarray(q))) - beta * before
        alphas.append(q @ v)
        v = v - alphas[-1] * q
        before, beta = q, np.linalg.norm(v)
        betas.append(beta)
        q = v / beta
    return np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)


try:
    from matfree import decomp
except ImportError:
    tridiagonal = plain
else:
    reduce = decomp.tridiag_sym(k)
    tridiagonal = jax.jit(lambda start: reduce(product, start).J_small)


def rule(start):
    """Nodes and weights of one probe."""
    nodes, vectors = np.linalg.eigh(np.asarray(tridiagonal(start)))
    return nodes, vectors[0] ** 2


nodes, weights = (np.stack(x) for x in zip(*map(rule, probes.T), strict=True))
how = {"of": "hessian", "order": "jax", "vectors": probes}
for name, (distance, bound) in assert_density(nodes, weights, snapshot, **how).items():
    print(f"{name}: {distance:.2g} of at most {bound:.2g}")

# %% A Hessian of the summed loss is found out, and why
try:
    assert_density(len(X) * nodes, weights, snapshot, **how)
except AssertionError as error:
    told = str(error)
print(told)

# %% The diagnosis
assert "factor 1/N missing" in told
