"""theory/hessian.md: every check on generated networks, and mutants that it rejects."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from refspec import Layer, curvature, hessian, models
from refspec.classes import snapshot
from refspec.hessian import assembly, blocks
from refspec.models import network as network_module
from refspec.theorems import Study, all_theorems
from refspec.theorems import hessian as page
from support.snapshots import networks, seen
from support.verdicts import holds, rejected

TANH = {"kinds": ("tanh", "tanh"), "hidden": (3, 2)}


@pytest.mark.theorem("H1")
@given(networks())
def test_H1(study):
    holds("H1", study)


@pytest.mark.theorem("H2")
@given(networks())
def test_H2(study):
    holds("H2", study)


@pytest.mark.theorem("H3")
@given(networks(hidden=3))
def test_H3(study):
    holds("H3", study)


@pytest.mark.theorem("H4")
@given(networks())
def test_H4(study):
    holds("H4", study)


@pytest.mark.theorem("H5")
@given(networks(kinds=("relu", "identity")))
def test_H5(study):
    holds("H5", study)


@pytest.mark.theorem("H6")
@given(networks())
def test_H6(study):
    holds("H6", study)


@pytest.mark.theorem("H7")
@given(networks())
def test_H7(study):
    holds("H7", study)


@pytest.mark.theorem("H8")
@given(networks())
def test_H8(study):
    holds("H8", study)


@pytest.mark.theorem("H9")
@given(networks())
def test_H9(study):
    holds("H9", study)


@pytest.mark.theorem("H10")
@given(networks())
def test_H10(study):
    holds("H10", study)


@pytest.mark.theorem("H11")
@given(networks())
def test_H11(study):
    holds("H11", study)


def halved(monkeypatch):
    """E at half its size."""
    true = assembly.seed

    def wrong(steps, f, labels, part, weights):
        steps, curvature, errors = true(steps, f, labels, part, weights)
        return steps, curvature, errors / 2 if part == "residual" else errors

    monkeypatch.setattr(assembly, "seed", wrong)


def without_bend(monkeypatch):
    """No second derivative of the activations."""
    true = blocks._dense

    def wrong(steps, xp):
        return [dataclasses.replace(x, bend=0 * x.bend) for x in true(steps, xp)]

    monkeypatch.setattr(blocks, "_dense", wrong)


def without_bridge(monkeypatch):
    """Blocks of two layers without the term R delta u."""
    true = blocks._add_cross

    def wrong(H, corner, S, reach, errors, layers, xp):
        errors = None if errors is None else 0 * errors
        true(H, corner, S, reach, errors, layers, xp)

    monkeypatch.setattr(blocks, "_add_cross", wrong)


def empirical(monkeypatch):
    """The gradients of the observed labels in place of the model's."""
    monkeypatch.setattr(curvature, "fisher", curvature.empirical_fisher)


def moved(monkeypatch):
    """A network with one weight changed by 1e-6 under the products."""
    true = hessian.hessian_vector_product

    def wrong(network, *args, **options):
        vector = models.flatten(network)
        vector = vector + 1e-6 * np.eye(len(vector))[0].astype(vector.dtype)
        return true(models.unflatten(network, vector), *args, **options)

    monkeypatch.setattr(hessian, "hessian_vector_product", wrong)


MUTANTS = {
    "H1": halved,
    "H2": without_bend,
    "H3": without_bridge,
    "H6": empirical,
    "H7": moved,
    "H9": halved,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_rejected(name, monkeypatch):
    holds(name, Study(seen(1, **TANH)))
    MUTANTS[name](monkeypatch)
    rejected(name, Study(seen(1, **TANH)))


def shuffled(made, what, rng):
    """Spoil an export grossly; its shapes and its network stay."""
    N, C = made.probabilities.shape
    order, p = rng.permutation(N), made.probabilities
    change = {
        "noise for errors": lambda h, e: (h, e.std() * rng.standard_normal(e.shape)),
        "noise for features": lambda h, e: (h.std() * rng.standard_normal(h.shape), e),
        "errors permuted": lambda h, e: (h, e[order]),
        "features permuted": lambda h, e: (h[order], e),
        "c' rolled": lambda h, e: (h, np.roll(e, 1, axis=1)),
        "errors doubled": lambda h, e: (h, 2 * e),
        "p uniform": lambda h, e: (h, e),
    }[what]
    layers = [Layer(x.name, *change(x.features, x.errors)) for x in made.layers]
    p = np.full((N, C), 1 / C) if what == "p uniform" else p
    return replace(made, layers=tuple(layers), probabilities=p)


WAYS = (
    *("noise for errors", "noise for features", "errors permuted"),
    *("features permuted", "c' rolled", "errors doubled", "p uniform"),
)


@pytest.mark.parametrize("what", WAYS)
@pytest.mark.parametrize("name", ["H1", "H6", "H10"])
def test_a_spoiled_export_is_rejected(name, what):
    made = seen(1, **TANH)
    holds(name, Study(made))
    rejected(name, Study(shuffled(made, what, np.random.default_rng(0))))


def test_a_smooth_activation_has_a_residual_on_the_diagonal():
    """H5's mutant is its hypothesis left out."""
    assert not page.H5.check(Study(seen(1, **TANH))).holds


def test_an_activation_at_the_end_has_a_residual():
    """H8's mutant: logits that are no linear layer's."""
    made = seen(1, **TANH)
    network = models.from_section(made.model)
    more = network_module.Network(
        (*network.operations, {"op": "tanh"}), network.parameters
    )
    study = Study(models.snapshot(more, made.model.inputs, made.labels))
    assert not page.H8.check(study).holds


@pytest.mark.parametrize("of", ["features", "errors"])
def test_one_changed_number_is_found(of):
    """H10's mutant: a corrupt export."""
    made = seen(1, **TANH)
    first = made.layers[0]
    arrays = {"features": first.features.copy(), "errors": first.errors.copy()}
    arrays[of][(0,) * arrays[of].ndim] += 1e-6
    layers = [Layer(first.name, **arrays), *made.layers[1:]]
    broken = snapshot(
        layers, made.labels, probabilities=made.probabilities, model=made.model
    )
    rejected("H10", Study(broken))


def test_what_a_statement_needs_is_said():
    unmet = {x.id: x.unmet for x in all_theorems() if x.page == "hessian.md"}
    made = seen(1, **TANH)
    bare = Study(snapshot(made.layers, made.labels, probabilities=made.probabilities))
    assert all("model section" in x(bare) for x in unmet.values())
    part = Study(
        snapshot(
            made.layers[1:],
            made.labels,
            probabilities=made.probabilities,
            model=made.model,
        )
    )
    assert "every layer" in unmet["H1"](part)
    assert "not tanh" in unmet["H5"](Study(made))
    rng = np.random.default_rng(0)
    cnn = models.cnn((1, 4, 4), [2], 2, activation="tanh", rng=rng)
    X = rng.standard_normal((4, 1, 4, 4))
    convolved = Study(models.snapshot(cnn, X, [0, 0, 1, 1]))
    assert "without convolutions" in unmet["H2"](convolved)
    for name in ("H1", "H4", "H6", "H9", "H10"):
        holds(name, convolved)
