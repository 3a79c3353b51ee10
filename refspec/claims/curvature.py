"""The Hessian beside the Fisher information, the Fisher beside approximations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import curvature, hessian, models
from refspec.attribution import HessianAttribution, attribute_hessian
from refspec.claims.registry import Evidence, Subject, graded, small, together, unjudged
from refspec.classes import Snapshot
from refspec.kronecker import LayerComparison, Nearest, compare_layer
from refspec.kronecker.nearest import nearest_by_class


def attributed(subject: Subject) -> tuple[HessianAttribution | None, list[str], str]:
    """Attribute the Hessian of the last layers that fit, or say why there is none."""
    chosen, reason = last_layers(subject.snapshot, subject.dense)
    if not chosen:
        return None, chosen, reason
    H = hessian.of_snapshot(subject.snapshot, chosen)
    F = curvature.fisher(subject.snapshot, chosen)
    return attribute_hessian(H, F), chosen, ""


def compared(subject: Subject, layer: str) -> LayerComparison:
    """Compare KFAC, EKFAC and CFAC with a layer's Fisher information."""
    return compare_layer(subject.snapshot, layer)


def nearest_terms(subject: Subject, layer: str) -> Nearest:
    """Return the nearest sum of C Kronecker products, or of as many as there are."""
    return nearest_by_class(subject.snapshot, layer)


def hessian_outliers(subject: Subject) -> Iterator[Evidence]:
    """Judge H on the last layers that fit in one dense matrix."""
    snapshot, place = subject.snapshot, "all layers of the export"
    found, chosen, reason = subject.once(attributed)
    if found is None:
        yield unjudged(place, reason)
        return
    if len(chosen) < len(snapshot.layers):
        place = f"layers {', '.join(chosen)}"
    C = snapshot.probabilities.shape[1]
    top = found.values[:C]
    top = top[top > found.radius]
    if not len(top):
        yield unjudged(place, "no eigenvalue is resolved from zero")
        return
    share = 1 - np.abs(found.parts["residual"][: len(top)]) / top
    shift = np.abs(found.values - found.fisher)[: len(top)] / top
    sine = float(np.sin(found.angles).max(initial=0.0))
    numbers = {
        "least share of the Fisher information in a top eigenvalue": float(share.min()),
        "largest relative shift of a top eigenvalue": float(shift.max()),
        "||E|| over the C-th eigenvalue": found.weyl / float(top[-1]),
        "largest sine between the top C eigenspaces": sine,
    }
    text = f"{share.min():.2f} of a top eigenvalue at least, sine {sine:.2f}"
    yield Evidence(
        place, numbers, together([graded(float(share.min())), small(sine)]), text
    )


def last_layers(snapshot: Snapshot, dense: int) -> tuple[list[str], str]:
    """Return the last layers of a known network with at most `dense` parameters.

    Or none, and why.
    """
    chosen: list[str] = []
    if snapshot.model is None:
        said = snapshot.provenance.get("without_network")
        why = f" ({said})" if isinstance(said, str) else ""
        return chosen, f"the export holds no network, only its features and errors{why}"
    try:
        models.from_section(snapshot.model)
    except ValueError as error:  # a network that refspec cannot run
        return chosen, str(error)
    known, left = {op.get("name") for op in snapshot.model.operations}, dense
    last = snapshot.layers[-1]
    if last.name not in known:
        return chosen, f"the last layer, {last.name}, is not in the export's network"
    for x in reversed(snapshot.layers):
        left -= x.parameters
        if left < 0 or x.name not in known:
            break
        chosen.insert(0, x.name)
    return chosen, (
        f"the last layer, {last.name}, has {last.parameters} parameters, and a matrix "
        f"is formed of {dense} at most (--dense)"
    )


def approximations(subject: Subject) -> Iterator[Evidence]:
    """Judge X in every layer that fits: CFAC nearer than KFAC and EKFAC, three ways."""
    snapshot, dense = subject.snapshot, subject.dense
    for x in snapshot.layers:
        if x.parameters > dense:
            text = f"{x.parameters} parameters, more than {dense}"
            yield unjudged(f"layer {x.name}", text)
            continue
        found = subject.once(compared, x.name)
        away: dict[str, dict[str, float]] = {
            "log10 error": dict(found.log10_error),
            "Frobenius error": dict(found.frobenius_error),
            "largest angle": {n: float(y.max()) for n, y in found.angles.items()},
        }
        numbers = {
            f"{what} of {n.upper()}": float(y[n])
            for what, y in away.items()
            for n in ("kfac", "ekfac", "cfac")
        }
        best = subject.once(nearest_terms, x.name)
        numbers["Frobenius error of the nearest product"] = float(best.errors[0])
        products = f"the nearest {len(best.errors)} products"
        numbers[f"Frobenius error of {products}"] = float(best.errors[-1])
        floor = _resolved(found, subject.C)
        told = {
            (what, n): y[n] > y["cfac"]
            for what, y in away.items()
            for n in ("kfac", "ekfac")
            if abs(y[n] - y["cfac"]) > floor[what]
        }
        if not told:
            text = "no two approximations differ by more than rounding does"
            yield unjudged(f"layer {x.name}", text)
            continue
        won = sum(told.values())
        text = f"nearer than KFAC and EKFAC in {won} of {len(told)} comparisons"
        lost = [
            f"{what} of {n.upper()}, {y['cfac']:.4g} against {y[n]:.4g}"
            for (what, n), nearer in told.items()
            for y in (away[what],)
            if not nearer
        ]
        text += f"; not in {'; '.join(lost)}" if lost else ""
        text += (
            f"; Frobenius error {away['Frobenius error']['cfac']:.3g}, of {products} "
            f"{best.errors[-1]:.3g}, of one {best.errors[0]:.3g}"
        )
        verdict = graded(won / len(told), full=1.0)
        yield Evidence(f"layer {x.name}", numbers, verdict, text)


def _resolved(found: LayerComparison, C: int) -> dict[str, float]:
    """Return how far two approximations' errors must lie apart to be told apart."""
    if not len(found.fisher) or not found.fisher[-1] > found.radius:  # it underflows
        return dict.fromkeys(
            ("log10 error", "Frobenius error", "largest angle"), np.inf
        )
    R, v = found.radius, found.fisher
    apart = [
        float(y[C - 1] - (y[C] if len(y) > C else 0)) if len(y) >= C else 0.0
        for y in (v, *found.eigenvalues.values())
    ]
    gap = min(apart)  # of the top C eigenvalues from the others, in all four matrices
    return {
        "log10 error": 4 * float(np.log10((v[-1] + R) / (v[-1] - R))),
        "Frobenius error": 4 * R / float(v[0]),
        "largest angle": 4 * R / gap if gap > 2 * R else np.inf,  # Davis and Kahan
    }
