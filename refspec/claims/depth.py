"""What changes with depth, and where training ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, curvature, rounding
from refspec.attribution import Clarity, depth_profile
from refspec.attribution.depth import leading_clarity
from refspec.claims.registry import (
    Evidence,
    Subject,
    graded,
    rank_correlation,
    said,
    small,
    together,
    unjudged,
)
from refspec.classes import Snapshot, class_slices
from refspec.models.network import weight_matrices
from refspec.results import Result


def depth(subject: Subject) -> Iterator[Evidence]:
    """Judge L: class means separate, and grow orthogonal, layer by layer."""
    snapshot = subject.snapshot
    for of in ("features", "errors"):
        if len(snapshot.layers) < 3:
            n = len(snapshot.layers)
            yield unjudged(of, f"{n} layer{'s' * (n > 1)}: no trend to be seen")
            continue
        profile = list(subject.once(profiled, of).values())
        separation = _trend([x.separation.value for x in profile])
        orthogonal = _trend([-x.orthogonality.value for x in profile])
        cosine = _trend([-x.cosine for x in profile])
        numbers = {
            "rank correlation of separation with depth": separation,
            "rank correlation of -lambda_2/lambda_C with depth": orthogonal,
            "rank correlation of -mean |cos| with depth": cosine,
        }
        if not np.any(np.isfinite(list(numbers.values()))):
            yield unjudged(of, "class means do not vary with depth")
            continue
        found = (said(x, ".2f", "none (no change)") for x in numbers.values())
        verdict = together(map(graded, numbers.values()))
        yield Evidence(of, numbers, verdict, f"rank correlations {', '.join(found)}")


def profiled(subject: Subject, of: str) -> dict[str, Clarity]:
    """Return the depth profile of features or errors."""
    snapshot = subject.snapshot
    build = {"features": curvature.features, "errors": curvature.errors}[of]
    moments = {x.name: build(snapshot, x.name) for x in snapshot.layers}
    if all(subject.top(x) is None for x in moments.values()):
        return depth_profile(snapshot, of)
    return {n: leading_clarity(x) for n, x in moments.items()}


def _trend(values: list[float]) -> float:
    """Return the rank correlation of values with their place."""
    return rank_correlation(range(len(values)), values)


@dataclass(frozen=True, slots=True)
class Collapse(Result):
    """Neural collapse of the last features, the four numbers of its paper.

    Parameters
    ----------
    nc1 : float
        tr(S_W S_B^+) / C: variability within classes over that between them.
    nc2_lengths, nc2_angles : float
        Standard deviation over mean of the lengths of the centred class means; mean
        distance of their cosines from -1 / (C - 1).
    nc3 : float
        Distance of the classifier's rows from the class means, both at unit Frobenius
        norm; nan without the network.
    nc4 : float
        Part of the samples whose class of largest probability is that of the nearest
        class mean.

    Notes
    -----
    All are nan where class means are equal, up to their rounding.
    """

    nc1: float
    nc2_lengths: float
    nc2_angles: float
    nc3: float
    nc4: float


def collapse(snapshot: Snapshot) -> Collapse:
    """Measure neural collapse in what enters the last layer.

    Parameters
    ----------
    snapshot : Snapshot
        Its last layer gives the logits.

    Returns
    -------
    Collapse

    Raises
    ------
    TypeError
        If it is no snapshot.

    References
    ----------
    Papyan, Han and Donoho (2020), "Prevalence of neural collapse during the terminal
    phase of deep learning training", PNAS 117(40).

    Examples
    --------
    >>> import refspec
    >>> 0 <= collapse(refspec.datasets.digits_mlp()).nc4 <= 1
    True
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    x = snapshot.layers[-1]
    h = backend.to_host(x.features).reshape(len(snapshot.labels), -1)
    h = h / (np.max(np.abs(h), initial=0.0) or 1.0)  # all five are ratios
    s, p = (
        backend.to_host(y) for y in (snapshot.sample_weights, snapshot.probabilities)
    )
    C = p.shape[1]
    mass = np.array([s[i:j].sum() for _, i, j in class_slices(snapshot.offsets)])
    safe = np.where(mass > 0, mass, 1)
    means = np.stack([s[i:j] @ h[i:j] for _, i, j in class_slices(snapshot.offsets)])
    means /= safe[:, None]
    some = mass > 0
    centred = means[some] - means[some].mean(axis=0)
    # features are at most 1 here, and a mean is a sum over samples, divided
    error = 2 * rounding.gamma(len(h) + C + 4, rounding.unit_roundoff(h))
    floor = error * math.sqrt(h.shape[1])
    sizes = np.linalg.norm(centred, axis=1)
    if not np.any(sizes > floor):
        return Collapse(*(math.nan,) * 5)
    away = h - means[snapshot.labels]
    # in the right singular vectors of the centred means S_B is diagonal, r^2 / C
    _, r, V = np.linalg.svd(centred, full_matrices=False)
    known = r > max(len(r) * np.finfo(h.dtype).eps * r[0], floor)
    within = s @ (away @ V[known].T) ** 2 * some.sum()
    nc1 = float(np.sum(within / r[known] ** 2)) / C
    unit = centred / np.where(sizes > 0, sizes, 1)[:, None]
    pairs = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    angles = float(np.mean(np.abs(pairs + 1 / (some.sum() - 1))))
    nearest = np.argmin(
        np.where(some, ((h[:, None] - means[None]) ** 2).sum(axis=2), np.inf), axis=1
    )
    return Collapse(
        nc1,
        float(sizes.std() / sizes.mean()),
        angles,
        _duality(snapshot, centred),
        min(1.0, float(s @ (nearest == np.argmax(p, axis=1)) / s.sum())),
    )


def _duality(snapshot: Snapshot, centred: np.ndarray) -> float:
    """Return the distance of the last weights to the centred class means, unit norm."""
    W = weight_matrices(snapshot.model, biases=False).get(snapshot.layers[-1].name)
    if W is None or W.shape[0] != len(centred):
        return math.nan
    W = backend.to_host(W)
    centred = centred[:, : W.shape[1]]  # a bias is the feature 1, and has no weights
    a, b = np.linalg.norm(W), np.linalg.norm(centred)
    if W.shape != centred.shape or a == 0 or b == 0:
        return math.nan
    return float(np.linalg.norm(W / a - centred / b))


def from_class_means(subject: Subject) -> Iterator[Evidence]:
    """Judge P: under decay a weight matrix is its class part, and what is within."""
    snapshot = subject.snapshot
    given, there = snapshot.provenance, weight_matrices(snapshot.model, biases=False)
    eta, slope = given.get("weight_decay", 0), given.get("gradient_norm")
    known = isinstance(eta, int | float) and isinstance(slope, int | float)
    if not there or not known or eta <= 0:
        text = "needs the network, weight_decay > 0 and gradient_norm in the export"
        yield unjudged("all layers of the export", text)
        return
    s = backend.to_host(snapshot.sample_weights)
    rows = np.arange(len(s))
    for x in snapshot.layers:
        W = there.get(x.name)
        h, e = (backend.to_host(y) for y in (x.features, x.errors))
        own = e[rows, snapshot.labels]
        if W is None or W.shape[0] != own.shape[2]:
            yield unjudged(f"layer {x.name}", "its weights are not in the export")
            continue
        W = backend.to_host(W)
        h = h[:, :, : W.shape[1]]
        whole, part = np.zeros(W.shape), np.zeros(W.shape)
        for _c, i, j in class_slices(snapshot.offsets):
            mass = s[i:j].sum()
            whole -= np.tensordot(
                s[i:j, None, None] * own[i:j], h[i:j], ((0, 1), (0, 1))
            )
            if mass > 0:
                error, mean = (np.tensordot(s[i:j], y[i:j], 1) for y in (own, h))
                part -= error.T @ mean / mass
        whole, part = whole / eta, part / eta
        C = snapshot.probabilities.shape[1]
        U, sigma, V = np.linalg.svd(W, full_matrices=False)
        top = min(C, len(sigma))
        made = np.sum(U[:, :top] * (part @ V[:top].T), axis=0)
        shares = made / np.where(sigma[:top] > 0, sigma[:top], 1)
        off = float(np.linalg.norm(W - whole) / np.linalg.norm(W))
        numbers = {
            "distance of W from -1/eta sum of errors features, relative": off,
            "median share of the class part in the top C singular values": float(
                np.median(shares)
            ),
            "gradient norm over eta ||W||": float(slope / (eta * np.linalg.norm(W))),
        }
        # a class part of twice W is as far from it as none: what is within undoes it
        share = 1 - abs(1 - float(np.median(shares)))
        verdict = together([small(off), graded(share)])
        text = f"stationary to {off:.2f}, class part {np.median(shares):.2f}"
        yield Evidence(f"layer {x.name}", numbers, verdict, text)


def collapsed(subject: Subject) -> Iterator[Evidence]:
    """Judge N."""
    snapshot = subject.snapshot
    found, place = collapse(snapshot), f"features of {snapshot.layers[-1].name}"
    if not math.isfinite(found.nc4):
        yield unjudged(place, "class means are equal: none of NC1 to NC4 is a number")
        return
    numbers = {
        "NC1, tr(S_W S_B^+) / C": found.nc1,
        "NC2, spread of lengths": found.nc2_lengths,
        "NC2, cosines from -1/(C-1)": found.nc2_angles,
        "NC3, weights from class means": found.nc3,
        "NC4, agreement with the nearest class mean": found.nc4,
    }
    seen = [small(x) for x in list(numbers.values())[:4]] + [graded(found.nc4)]
    third = said(found.nc3, ".2f", "unknown without its weights")
    text = (
        f"NC1 {found.nc1:.3g}, NC2 {found.nc2_lengths:.2f} and {found.nc2_angles:.2f}, "
        f"NC3 {third}, NC4 {found.nc4:.2f}"
    )
    yield Evidence(place, numbers, together(seen), text)
