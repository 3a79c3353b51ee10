"""Snapshots for the property tests of theorems: what hypothesis draws, made small.

Unequal classes, C from 2, scales from 1e-60 to 1e60 of a gradient, ties, samples and
labels of weight 0, fitted networks whose probabilities underflow.
"""

import numpy as np
from hypothesis import strategies as st

from refspec import Layer, models, snapshot
from refspec.models import operations
from refspec.theorems import Study

seeds = st.integers(0, 2**32 - 1)
ACTIVATIONS = tuple(sorted(operations.ACTIVATIONS))


def sampled(
    seed,
    counts=(3, 1, 4),
    sides=((3, 2),),
    T=1,
    scales=(0, 0),
    ties=False,
    empty=False,
    certain=False,
    sharpness=1,
    dtype="float64",
):
    """Features around class means and errors J (p - e_c') of layers with sides (a, b).

    `scales` are powers of ten of features and errors, `ties` repeats samples, `empty`
    gives some samples weight 0, `certain` makes probabilities 0 and 1.
    """
    rng = np.random.default_rng(seed)
    C, N = len(counts), sum(counts)
    labels = np.repeat(np.arange(C), counts)
    logits = rng.standard_normal((N, C)) + 2 * np.eye(C)[labels]
    logits *= 400 if certain else sharpness
    first = np.searchsorted(labels, labels) if ties else np.arange(N)
    layers = []
    for k, (a, b) in enumerate(sides):
        h = rng.standard_normal((C, 1, a))[labels] + rng.standard_normal((N, T, a))
        h[:, :, -1] = 1  # the bias
        J = rng.standard_normal((C, T, b, C))[labels]
        J = J + rng.standard_normal((N, T, b, C))
        J -= J[..., :1]  # p - e is blind to it; it would only leave rounding
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        errors = np.einsum("ntbk,nck->nctb", J, p[:, None, :] - np.eye(C))
        h, errors = h[first] * 10.0 ** scales[0], errors[first] * 10.0 ** scales[1]
        layers.append(Layer(f"fc{k + 1}", h, errors))
    s = rng.uniform(0.5, 1.5, N)
    if empty:
        s[rng.integers(0, N)] = 0
    s = s / s.sum() if s.any() else np.full(N, 1 / N)
    layers = [
        Layer(x.name, x.features.astype(dtype), x.errors.astype(dtype)) for x in layers
    ]
    s = s.astype(dtype)
    return snapshot(
        layers, labels, logits=logits[first].astype(dtype), sample_weights=s / s.sum()
    )


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
            empty=draw(st.booleans(), label="a sample of weight 0"),
            certain=draw(st.booleans(), label="certain"),
            dtype=dtype,
        ),
        seed=draw(st.integers(0, 2**16), label="probes"),
    )


def seen(seed, counts=(3, 1, 4), hidden=(3,), kinds=("tanh",), inputs=2, empty=False):
    """See a random multilayer perceptron through random samples."""
    rng = np.random.default_rng(seed)
    C, N = len(counts), sum(counts)
    network = models.mlp([inputs, *hidden, C], list(kinds), rng=rng)
    vector = models.flatten(network)
    network = models.unflatten(network, vector + 0.3 * rng.standard_normal(vector.size))
    s = rng.uniform(0.5, 1.5, N)
    if empty:
        s[rng.integers(0, N)] = 0
    s = s / s.sum() if s.any() else np.full(N, 1 / N)
    X = rng.standard_normal((N, inputs))
    return models.snapshot(
        network, X, np.repeat(np.arange(C), counts), sample_weights=s
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
            empty=draw(st.booleans(), label="a sample of weight 0"),
        )
    )
