"""Every check on a network's samples in another namespace, and in float32."""

import array_api_strict
import numpy as np
import pytest

from refspec import models
from refspec.classes import Layer, ModelSection, Snapshot
from refspec.theorems import Study
from refspec.theorems.catalogue import all_theorems
from support.snapshots import seen


def in_single():
    """See a network that computes in float32."""
    made = seen(2, kinds=("relu",))
    network = models.from_section(made.model)
    parameters = {k: x.astype(np.float32) for k, x in network.parameters.items()}
    network = models.Network(network.operations, parameters)
    return models.snapshot(network, made.model.inputs.astype(np.float32), made.labels)


def strict(s):
    """Move a snapshot to array_api_strict."""

    def move(x):
        return array_api_strict.asarray(np.asarray(x))

    parameters = {k: move(x) for k, x in s.model.parameters.items()}
    section = ModelSection(move(s.model.inputs), s.model.operations, parameters)
    return Snapshot(
        tuple(Layer(x.name, move(x.features), move(x.errors)) for x in s.layers),
        move(s.probabilities),
        s.labels,
        move(s.sample_weights),
        s.provenance,
        section,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "snapshot",
    [strict(seen(1)), in_single(), strict(in_single())],
    ids=["strict", "float32", "strict float32"],
)
def test_every_check_takes_any_namespace(snapshot):
    study, applied = Study(snapshot), 0
    for theorem in all_theorems():
        if theorem.comparisons is None or theorem.deep or theorem.unmet(study):
            continue
        verdict = theorem.check(study)
        assert verdict.holds, (theorem.id, verdict)
        applied += 1
    assert applied > 60
