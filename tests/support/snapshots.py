"""Random snapshots for unit tests, and what a bound of theirs is made of."""

import numpy as np

import refspec
from refspec import Layer, backend, rounding, snapshot

U = 2.0**-53


def net(asarray=np.asarray, T=1, seed=0, sizes=(4, 3, 2), dims=((3, 2), (2, 3))):
    """Random layers whose errors obey the score identity: errors = J'(p - e)."""
    rng = np.random.default_rng(seed)
    N, C = sum(sizes), len(sizes)
    logits = 3 * rng.standard_normal((N, C))
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    seeds = p[:, None, :] - np.eye(C)
    layers = []
    for k, (a, b) in enumerate(dims):
        J = rng.standard_normal((N, C, T * b))
        errors = (seeds @ J).reshape(N, C, T, b)
        h = rng.standard_normal((N, T, a))
        layers.append(refspec.Layer(f"l{k}", asarray(h), asarray(errors)))
    labels = np.repeat(np.arange(C), sizes)
    return refspec.snapshot(layers, labels, logits=asarray(logits))


def rows_of(snapshot):
    """Every row sqrt(w) sum_t errors (x) features, by loops."""
    p = backend.to_host(snapshot.probabilities)
    N, C = p.shape
    rows = []
    for i in range(N):
        for k in range(C):
            parts = []
            for x in snapshot.layers:
                h, e = backend.to_host(x.features), backend.to_host(x.errors)
                T = h.shape[1]
                g = sum(np.outer(e[i, k, t], h[i, t]) for t in range(T))
                parts.append(g.ravel() * np.sqrt(p[i, k] / N))
            rows.append(np.concatenate(parts))
    return np.array(rows)


def network(seed, counts=(3, 1, 4), T=1, a=3, b=2, scale=1.0, weights=True):
    """Random features, errors J_t (p - e_c'), unequal classes, unequal weights."""
    rng = np.random.default_rng(seed)
    C, N = len(counts), sum(counts)
    labels = np.repeat(np.arange(C), counts)
    logits = scale * rng.standard_normal((N, C)) + 2 * np.eye(C)[labels]
    p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
    means = rng.standard_normal((C, 1, a))
    h = means[labels] + rng.standard_normal((N, T, a))
    h[:, :, -1] = 1  # the bias
    J = rng.standard_normal((C, T, b, C))[labels] + rng.standard_normal((N, T, b, C))
    delta = p[:, None, :] - np.eye(C)
    errors = np.einsum("ntbk,nck->nctb", J, delta)
    s = rng.uniform(0.5, 1.5, N) if weights else np.ones(N)
    return snapshot(
        [Layer("fc", h, errors)], labels, probabilities=p, sample_weights=s / s.sum()
    )


def slack(s, k=0):
    """gamma times tr(Delta) tr(H) and the Fisher's trace: a bound on every identity."""
    layer = s.layers[0]
    N, C, T, _ = layer.errors.shape
    w = s.sample_weights[:, None] * s.probabilities
    norms = np.sum(layer.errors**2, axis=(2, 3)), np.sum(layer.features**2, axis=(1, 2))
    fisher = T * np.sum(w * norms[0] * norms[1][:, None])
    pi = np.bincount(s.labels, s.sample_weights)
    left = np.bincount(s.labels, np.sum(w * norms[0], axis=1))
    right = np.bincount(s.labels, s.sample_weights * norms[1])
    within = np.sum(left * right / np.where(pi > 0, pi, 1))
    size = T * (np.sum(left) * np.sum(right) + within) + fisher
    return rounding.gamma(8 * N * C * T + 64 + k, U) * size


def random_snapshot(
    seed, sizes=(3, 1, 2), a=4, b=3, dtype=np.float64, zero_weight=False
):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    N, C = len(labels), len(sizes)
    logits = rng.standard_normal((N, C)).astype(dtype)
    features = (
        rng.standard_normal((N, 1, a)) + 3 * np.eye(C, a)[labels][:, None]
    ).astype(dtype)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    W = rng.standard_normal((C, b))
    errors = ((p[:, None, :] - np.eye(C)) @ W)[:, :, None, :].astype(dtype)
    s = np.full(N, 1 / N)
    if zero_weight:
        s[0] = 0
        s /= s.sum()
    layer = refspec.Layer("fc", features, errors)
    return refspec.snapshot(
        [layer], labels, logits=logits, sample_weights=s.astype(dtype)
    )
