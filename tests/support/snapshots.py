"""Snapshots that tests are about: named ones, and those that Hypothesis draws.

Unequal classes, C from 2, scales from 1e-60 to 1e60 of a gradient, ties, samples and
labels of weight 0, fitted networks whose probabilities underflow.
"""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

import refspec
from refspec import Layer, backend, models, rounding
from refspec.models import evaluation, operations, training
from refspec.theorems import Study

seeds = st.integers(0, 2**32 - 1)
ACTIVATIONS = tuple(sorted(operations.ACTIVATIONS))
SCALES = (1e-60, 1e-30, 1.0, 1e30, 1e60)


def sampled(
    seed=0,
    counts=(3, 1, 4),
    sides=((3, 2), (2, 3)),
    T=1,
    *,
    scales=(0, 0),
    ties=False,
    empty=None,
    certain=False,
    sharpness=1,
    equal=False,
    dtype="float64",
    asarray=np.asarray,
):
    """Features around class means and errors J (p - e_c') of layers with sides (a, b).

    Where b is None the layer gives the logits. `scales` are powers of ten of features
    and errors, `ties` repeats samples, sample `empty` has weight 0, `certain` makes
    probabilities 0 and 1, `equal` gives all samples one weight.
    """
    rng = np.random.default_rng(seed)
    C, N = len(counts), sum(counts)
    labels = np.repeat(np.arange(C), counts)
    first = np.searchsorted(labels, labels) if ties else np.arange(N)
    logits = rng.standard_normal((N, C)) + 2 * np.eye(C)[labels]
    logits *= 400 if certain else sharpness
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    misses = p[:, None, :] - np.eye(C)
    made = []
    for a, b in sides:
        t = 1 if b is None else T
        h = rng.standard_normal((C, 1, a))[labels] + rng.standard_normal((N, t, a))
        h[:, :, -1] = 1  # the bias
        errors = misses[:, :, None]
        if b is not None:
            J = rng.standard_normal((C, t, b, C))[labels]
            J = J + rng.standard_normal((N, t, b, C))
            J -= J[..., :1]  # p - e is blind to it; it would only leave rounding
            errors = np.einsum("ntbk,nck->nctb", J, misses)
        made.append((h[first] * 10.0 ** scales[0], errors[first] * 10.0 ** scales[1]))
    s = np.ones(N) if equal else rng.uniform(0.5, 1.5, N)
    if empty is not None:
        s[empty] = 0
    s = s / s.sum() if s.any() else np.full(N, 1 / N)
    s = s.astype(dtype)

    def at(x):
        return asarray(x.astype(dtype))

    names = ["fc"] if len(made) == 1 else [f"fc{k + 1}" for k in range(len(made))]
    layers = [Layer(n, at(h), at(e)) for n, (h, e) in zip(names, made, strict=True)]
    return refspec.snapshot(
        layers, labels, probabilities=at(p[first]), sample_weights=at(s / s.sum())
    )


def typical(seed=0, counts=(4, 3, 5), T=1, a=3, b=4):
    """One without degenerate parts: equal weights, the second layer at the logits."""
    return sampled(seed, counts, ((a, b), (3, None)), T, equal=True)


def fitted(seed=0, counts=(4, 3, 5), a=3, b=4):
    """One whose labels are all but certain; no seed of its errors is a difference."""
    rng = np.random.default_rng(seed)
    labels, every = np.repeat(np.arange(len(counts)), counts), np.eye(len(counts))
    p = np.exp(rng.standard_normal((len(labels), len(counts))) + 25 * every[labels])
    p /= p.sum(axis=1, keepdims=True)
    seeds = evaluation.misses(p[:, None, :], every, np)
    errors = seeds @ rng.standard_normal((len(labels), len(counts), b))
    layers = [
        Layer(name, rng.standard_normal((len(labels), 1, a)), e[:, :, None])
        for name, e in (("fc1", errors), ("fc2", seeds))
    ]
    return refspec.snapshot(layers, labels, probabilities=p)


def seen(seed, counts=(3, 1, 4), hidden=(3,), kinds=("tanh",), inputs=2, empty=None):
    """See a random multilayer perceptron through random samples."""
    rng = np.random.default_rng(seed)
    C, N = len(counts), sum(counts)
    network = models.mlp([inputs, *hidden, C], list(kinds), rng=rng)
    vector = models.flatten(network)
    network = models.unflatten(network, vector + 0.3 * rng.standard_normal(vector.size))
    s = rng.uniform(0.5, 1.5, N)
    if empty is not None:
        s[empty] = 0
    s = s / s.sum() if s.any() else np.full(N, 1 / N)
    X = rng.standard_normal((N, inputs))
    return models.snapshot(
        network, X, np.repeat(np.arange(C), counts), sample_weights=s
    )


def trained(decay=0.01):
    """See one network before training and at its minimum under decay."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (6, 7, 8))
    X = np.eye(3)[labels] @ rng.standard_normal((3, 4)) + rng.standard_normal((21, 4))
    start = models.mlp([4, 5, 3], rng=rng)
    end = training.fit(start, X, labels, weight_decay=decay, steps=400)
    _, gradient = models.loss_and_gradient(end, X, labels)
    slope = float(np.linalg.norm(gradient + decay * models.flatten(end)))
    given = {"weight_decay": decay, "gradient_norm": slope}
    return [models.snapshot(x, X, labels, provenance=given) for x in (start, end)]


def altered(snapshot, name, factor=1.5, index=(0, 0, 0, 0), layer=0):
    """Return a snapshot with one number of a layer's features or errors changed."""
    layers = list(snapshot.layers)
    x = getattr(layers[layer], name).copy()
    x[index[: x.ndim]] = x[index[: x.ndim]] * factor + 0.5
    layers[layer] = replace(layers[layer], **{name: x})
    return refspec.snapshot(
        layers,
        snapshot.labels,
        probabilities=snapshot.probabilities,
        sample_weights=snapshot.sample_weights,
        provenance=snapshot.provenance,
        model=snapshot.model,
    )


@st.composite
def snapshots(draw, *, scored=True, logits=None, layers=None, one=False):
    """Draw unequal classes, ranks, scales of every array, ties, vanishing weights.

    With `logits` the last layer's outputs are the logits; with `one` all scales are 1
    and no probability vanishes.
    """
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    N, C = sum(sizes), len(sizes)
    sharp = 1.0 if one else draw(st.sampled_from([1.0, 0.0, 30.0, 800.0]))
    f = sharp * rng.standard_normal((N, C))
    f -= f.max(axis=1, keepdims=True)
    p = np.exp(np.maximum(f, -744.0)) * (f > -744)
    p /= p.sum(axis=1, keepdims=True)
    seeds = p[:, None, :] - np.eye(C)
    ties = draw(st.booleans())

    def values(*shape):
        x = rng.standard_normal(shape)
        return np.round(2 * x) / 2 if ties else x

    count = layers or draw(st.integers(1, 2))
    made = []
    for k in range(count):
        last = k == count - 1
        at_logits = last and (draw(st.booleans()) if logits is None else logits)
        T = 1 if at_logits else draw(st.integers(1, 2))
        a, b = draw(st.integers(1, 3)), C if at_logits else draw(st.integers(1, 3))
        big, small = (1.0 if one else draw(st.sampled_from(SCALES)) for _ in range(2))
        if at_logits:
            errors = seeds
        elif scored:
            rank = draw(st.integers(0, 3))
            J = values(N, C, rank) @ values(N, rank, T * b)
            # p - e is blind to what all labels share; without it the largest of the
            # J'(p - e) is half the largest J at least, and rounding small beside it
            errors = small * (seeds @ (J - J[:, :1]))
        else:
            errors = small * values(N, C, T * b)
        features = big * values(N, T, a)
        made.append(refspec.Layer(f"fc{k + 1}", features, errors.reshape(N, C, T, b)))
    s = None
    if draw(st.booleans()):
        tiny = 1.0 if one else draw(st.sampled_from([1.0, 1e-30, 1e-200, 0.0]))
        s = np.where(rng.random(N) < 0.5, 1.0, tiny)
        s[int(rng.integers(N))] = 1.0
        s = s / s.sum()
    labels = np.repeat(np.arange(C), sizes)
    return refspec.snapshot(made, labels, probabilities=p, sample_weights=s)


@st.composite
def samples(draw, positions=1, layers=2, classes=4, largest=3):
    """Studies of snapshots without a network."""
    counts = tuple(
        draw(st.lists(st.integers(1, 4), min_size=2, max_size=classes), label="counts")
    )
    side = st.tuples(st.integers(1, largest + 1), st.integers(1, largest))
    dtype = draw(st.sampled_from(["float64", "float64", "float32"]), label="dtype")
    power = st.integers(-30, 30) if dtype == "float64" else st.integers(-3, 3)
    extreme = st.sampled_from([(0, 0), (-30, -30), (30, 30)])
    wild = draw(st.booleans(), label="extreme") and dtype == "float64"
    return Study(
        sampled(
            draw(seeds, label="seed"),
            counts,
            draw(st.lists(side, min_size=1, max_size=layers), label="sides"),
            T=draw(st.integers(1, positions), label="T"),
            scales=draw(extreme if wild else st.tuples(power, power), label="scales"),
            ties=draw(st.booleans(), label="ties"),
            empty=draw(st.none() | st.integers(0, sum(counts) - 1), label="empty"),
            certain=draw(st.booleans(), label="certain"),
            dtype=dtype,
        ),
        seed=draw(st.integers(0, 2**16), label="probes"),
    )


@st.composite
def networks(draw, kinds=ACTIVATIONS, hidden=2):
    """Studies of small multilayer perceptrons."""
    widths = draw(st.lists(st.integers(1, 4), max_size=hidden), label="hidden")
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4), label="counts")
    return Study(
        seen(
            draw(seeds, label="seed"),
            tuple(counts),
            widths,
            [draw(st.sampled_from(kinds)) for _ in widths],
            draw(st.integers(1, 3), label="inputs"),
            empty=draw(st.none() | st.integers(0, sum(counts) - 1), label="empty"),
        )
    )


def rows_of(snapshot):
    """Every row sqrt(w) sum_t errors (x) features, by loops."""
    p = backend.to_host(snapshot.probabilities)
    s = backend.to_host(snapshot.sample_weights)
    N, C = p.shape
    rows = []
    for i in range(N):
        for k in range(C):
            parts = []
            for x in snapshot.layers:
                h, e = backend.to_host(x.features), backend.to_host(x.errors)
                T = h.shape[1]
                g = sum(np.outer(e[i, k, t], h[i, t]) for t in range(T))
                parts.append(g.ravel() * np.sqrt(s[i] * p[i, k]))
            rows.append(np.concatenate(parts))
    return np.array(rows)


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
    return rounding.gamma(8 * N * C * T + 64 + k, 2.0**-53) * size
