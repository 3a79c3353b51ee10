"""Snapshots that are hard to be right about: families, drawn from a generator."""

import warnings

import numpy as np

import refspec
from refspec import Layer
from support.snapshots import sampled


def _counts(rng, classes=None):
    """Return samples a class, N <= 6 in all."""
    C = classes or int(rng.integers(2, 5))
    counts = np.ones(C, dtype=int)
    for _ in range(rng.integers(0, 7 - C)):
        counts[rng.integers(C)] += 1
    return tuple(counts.tolist())


def _sides(rng, most=8):
    """Return one or two layers (a, b) of at most so many parameters in all."""
    sides = []
    for _ in range(rng.integers(1, 3)):
        a = int(rng.integers(1, most + 1))
        sides.append((a, int(rng.integers(1, most // a + 1))))
        most -= a * sides[-1][1]
        if most < 1:
            break
    return tuple(sides)


def _plain(rng, **how):
    how = {"counts": _counts(rng), "sides": _sides(rng)} | how
    return sampled(int(rng.integers(2**32)), **how)


def _changed(snapshot, change, probabilities=None, weights=None):
    """Return the snapshot with features and errors changed, layer by layer."""
    p = snapshot.probabilities if probabilities is None else probabilities
    s = snapshot.sample_weights if weights is None else weights
    made = [Layer(x.name, *change(x.features, x.errors)) for x in snapshot.layers]
    return refspec.snapshot(made, snapshot.labels, probabilities=p, sample_weights=s)


def _fit(x, dtype="float64"):
    """Return x in a format, what it cannot hold clipped."""
    most = np.finfo(dtype).max
    return np.clip(x, -most, most).astype(dtype)


def positions(rng):
    """Two or three positions a layer."""
    return _plain(rng, T=int(rng.integers(2, 4)))


def cancellation(rng):
    """Positions whose terms cancel, all but a part of 1 to 1e-16."""
    snapshot = positions(rng)

    def change(h, e):
        near = 10.0 ** rng.uniform(-16, 0)
        h = h[:, :1] * (1 + near * rng.standard_normal(h.shape))
        signs = (-1.0) ** np.arange(e.shape[2])[:, None]
        return h, e[:, :, :1] * signs * (1 + near * rng.standard_normal(e.shape))

    return _changed(snapshot, change)


def scales(rng):
    """Features and errors of 1e-300 to 1e300, whole layers or sample by sample."""
    snapshot = _plain(rng, T=int(rng.integers(1, 3)))
    N, by_sample = len(snapshot.labels), rng.random() < 0.5

    def change(h, e):
        h, e = np.clip(h, -5, 5), np.clip(e, -5, 5)
        power = rng.uniform(-300, 300, (2, N if by_sample else 1))
        if rng.random() < 0.7:  # their product is of some size, so that it is answered
            power[1] = rng.uniform(-140, 140) - power[0]
        power = np.clip(power, -300, 300).reshape(2, -1, 1, 1)
        return _fit(h * 10.0 ** power[0]), _fit(e * 10.0 ** power[1][..., None])

    with np.errstate(all="ignore"):
        return _changed(snapshot, change)


def float32(rng):
    """Numbers of float32, of sizes that it has, positions that may cancel."""
    snapshot = cancellation(rng) if rng.random() < 0.3 else _plain(rng)
    power = rng.uniform(-20, 15, 2) * (rng.random() < 0.5)

    def change(h, e):
        h, e = h * 10.0 ** power[0], e * 10.0 ** power[1]
        return _fit(h, "float32"), _fit(e, "float32")

    p = snapshot.probabilities.astype("float32")
    return _changed(snapshot, change, p, snapshot.sample_weights.astype("float32"))


def zero_weights(rng):
    """Samples of weight 0 or nearly, probabilities of 0, 1 and below 1e-308."""
    snapshot = _plain(rng)
    N, C = snapshot.probabilities.shape
    s, p = rng.uniform(0.5, 1.5, N), snapshot.probabilities.copy()
    s[rng.integers(N)] = rng.choice([0, 1e-320, 1e-200, 1e-20])
    i = rng.integers(N)
    p[i] = np.eye(C)[rng.integers(C)]
    if rng.random() < 0.5:
        k = int(np.argmin(p[i]))
        p[i, k] = rng.choice([6e-320, 5e-324, 1e-310])
    return _changed(snapshot, lambda h, e: (h, e), p, s / s.sum())


def repeated(rng):
    """Eigenvalues that coincide: samples again, or one-hot features and errors."""
    if rng.random() < 0.5:
        return _plain(rng, ties=True, equal=True)
    counts = _counts(rng)
    N, C = sum(counts), len(counts)
    d = int(rng.integers(1, 9))
    h = np.eye(d)[np.arange(N) % d].reshape(N, 1, d)
    e = np.ones((N, C, 1, 1)) * rng.choice([1.0, 1 / 3])
    labels = np.repeat(np.arange(C), counts)
    p = np.full((N, C), 1 / C)
    return refspec.snapshot([Layer("fc1", h, e)], labels, probabilities=p)


def few_dimensions(rng):
    """Fewer parameters than classes."""
    return _plain(rng, counts=_counts(rng, int(rng.integers(3, 6))), sides=((1, 2),))


def many_dimensions(rng):
    """More parameters than samples."""
    return _plain(rng, counts=_counts(rng, 2)[:2], sides=((4, 2),))


def single_samples(rng):
    """One sample a class."""
    return _plain(rng, counts=(1,) * int(rng.integers(2, 6)))


def two_classes(rng):
    """C = 2: every class has one cross class that is not its own."""
    return _plain(rng, counts=_counts(rng, 2), T=int(rng.integers(1, 3)))


FAMILIES = {
    f.__name__: f
    for f in (
        positions,
        cancellation,
        scales,
        float32,
        zero_weights,
        repeated,
        few_dimensions,
        many_dimensions,
        single_samples,
        two_classes,
    )
}


def draw(name, seed, k):
    """Return snapshot k of a family."""
    rng = np.random.default_rng([seed, sorted(FAMILIES).index(name), k])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return FAMILIES[name](rng)
