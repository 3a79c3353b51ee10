"""Snapshots that theorems are tested on, and mutants of them."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

import refspec
from refspec.theorems import Study

SCALES = (1e-60, 1e-30, 1.0, 1e30, 1e60)


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
        made.append(refspec.Layer(f"l{k}", features, errors.reshape(N, C, T, b)))
    s = None
    if draw(st.booleans()):
        tiny = 1.0 if one else draw(st.sampled_from([1.0, 1e-30, 1e-200, 0.0]))
        s = np.where(rng.random(N) < 0.5, 1.0, tiny)
        s[int(rng.integers(N))] = 1.0
        s = s / s.sum()
    labels = np.repeat(np.arange(C), sizes)
    return refspec.snapshot(made, labels, probabilities=p, sample_weights=s)


def typical(seed=0, sizes=(4, 3, 5), **shape):
    """Return one snapshot without degenerate parts, two layers, the last at logits."""
    rng = np.random.default_rng(seed)
    N, C = sum(sizes), len(sizes)
    T, a, b = shape.get("T", 1), shape.get("a", 3), shape.get("b", 4)
    f = 1.5 * rng.standard_normal((N, C))
    p = np.exp(f - np.logaddexp.reduce(f, axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    seeds = p[:, None, :] - np.eye(C)
    J = rng.standard_normal((N, C, T * b))
    one = refspec.Layer(
        "l0", rng.standard_normal((N, T, a)), (seeds @ J).reshape(N, C, T, b)
    )
    two = refspec.Layer("l1", rng.standard_normal((N, 1, 3)), seeds[:, :, None, :])
    labels = np.repeat(np.arange(C), sizes)
    return refspec.snapshot([one, two], labels, probabilities=p)


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


def study_of(snapshot, **wrong):
    """Return a study some of whose quantities are replaced by wrong ones."""
    study = Study(snapshot)
    study.__dict__.update(wrong)
    return study
