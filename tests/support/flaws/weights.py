"""Flaws of theory/weights.md."""

from dataclasses import replace

import numpy as np

import refspec
from refspec.classes import class_slices
from support.flaws import Flaw, before, features, larger
from support.snapshots import typical

GRADIENT = "refspec.curvature:empirical_fisher"


def stationary(snapshot, decay):
    """Give a snapshot the weights of which it is a stationary point."""
    s, steps, parameters = snapshot.sample_weights, [], {}
    for x in snapshot.layers:
        own = x.errors[np.arange(len(s)), snapshot.labels]
        W = -np.einsum("i,itb,ita->ba", s, own, x.features) / decay
        steps.append({"op": "linear", "name": x.name, "weight": x.name, "bias": None})
        parameters[x.name] = W
    model = refspec.ModelSection(np.zeros((len(s), 1)), steps, parameters)
    given = {"weight_decay": decay, "gradient_norm": 0.0}
    return replace(snapshot, model=model, provenance=given)


def stated(snapshot):
    """Give a snapshot the loss of its labels."""
    p = snapshot.probabilities[np.arange(len(snapshot.labels)), snapshot.labels]
    loss = float(-snapshot.sample_weights @ np.log(p))
    return replace(snapshot, provenance={"mean_loss": loss})


def restated(name):
    """Enlarge a number of the provenance."""

    def changed(snapshot, size):
        given = dict(snapshot.provenance)
        return replace(snapshot, provenance=given | {name: (1 + size) * given[name]})

    return changed


def class_means(snapshot, _):
    """Put every class's mean features in its samples' place: no covariance is left."""
    s, made = snapshot.sample_weights, []
    for x in snapshot.layers:
        h = x.features.copy()
        for _c, i, j in class_slices(snapshot.offsets):
            h[i:j] = np.average(h[i:j], axis=0, weights=s[i:j])
        made.append(replace(x, features=h))
    return replace(snapshot, layers=tuple(made))


def at_rest():
    return stationary(typical(), 0.1)


FLAWS = (
    Flaw("D1", "features too large", "data", features(larger), at_rest),
    Flaw("D1", "another decay", "data", restated("weight_decay"), at_rest),
    Flaw("D2", "gradients too large", GRADIENT, before(features(larger)), typical),
    Flaw("D2", "class means alone", GRADIENT, before(class_means), typical),
    Flaw(
        "D3", "another loss", "data", restated("mean_loss"), lambda: stated(typical())
    ),
)
REASONS: dict[str, str] = {}
