"""Every public type prints itself in a few lines, with real objects."""

import functools
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import refspec
from refspec import (
    attribution,
    claims,
    hessian,
    implicit,
    kronecker,
    models,
    random_matrix,
    report,
    rounding,
    testing,
)
from refspec.attribution import class_means, depth_profile, eigenbasis
from refspec.strategies import LabelledNetwork
from refspec.synthetic import Recipe
from refspec.theorems import Study, Verdict, all_theorems

NETWORKS = refspec.datasets.names()
LONGEST = 500


def exported():
    """Return the classes that refspec and its packages export."""
    names = [x.name for x in pkgutil.iter_modules(refspec.__path__) if x.ispkg]
    found = [refspec, *(importlib.import_module(f"refspec.{n}") for n in names)]
    found = [x for x in found if x is not refspec.exporters]
    all_ = [getattr(x, n) for x in found for n in getattr(x, "__all__", ())]
    return {x for x in all_ if inspect.isclass(x)}


def too_long(made):
    """Return the sizes of what prints more than a few lines, by type."""
    found = [(type(x).__name__, repr(x)) for x in made]
    return {n: len(x) for n, x in found if len(x) > LONGEST or x.count("\n") > 4}


def of_kronecker(snapshot, layer):
    """Yield operators of a layer, and what is made of them."""
    first = kronecker.kfac(snapshot, layer)
    third = kronecker.cfac(snapshot, layer)
    yield from (first, kronecker.ekfac(snapshot, layer), third)
    yield kronecker.BlockDiagonal((first,) * 50)
    law = snapshot.labels, snapshot.probabilities, snapshot.sample_weights
    yield kronecker.class_factors(snapshot.layer(layer), *law)
    P = kronecker.factored_tikhonov(first, 1.0)
    V = np.ones((first.left.shape[0], first.right.shape[0]))
    yield kronecker.damped_solve(third, V, 1.0, P, iterations=1)
    yield kronecker.compare_layer(snapshot, layer, top=3)


@functools.cache
def objects(name):
    """Return an object of every type that an embedded network leads to."""
    s = getattr(refspec.datasets, name)()
    last = s.layers[-1]
    fisher = refspec.fisher(s, [last.name])
    errors = refspec.errors(s, last.name)
    made = [s, s.model, last, fisher, fisher.rows, *fisher.rows.layers]
    made += [refspec.coordinates.coordinates(fisher), refspec.spectrum(fisher)]
    made += [refspec.decompose(fisher)]
    basis = eigenbasis(errors)
    made += [basis, attribution.attribute(basis), class_means(errors)]
    profile = depth_profile(s, "features")
    made += [profile, *profile.values()]
    network, _ = models.of_snapshot(s)
    made += [network, *models.recompute(s), *of_kronecker(s, last.name)]
    made += [report.collect(s, per_layer=False, dense=0, theorems=())]
    if last.parameters < 1000:
        H = hessian.of_snapshot(s, [last.name])
        made.append(attribution.attribute_hessian(H, fisher))
    return made


@functools.cache
def others():
    """Return an object of every type that no embedded network leads to."""
    recipe = Recipe(classes=3, dim=9, per_class=20, feature_dim=5, feature_noise=1.0)
    world = recipe.plant()
    s, (name, *_) = world.snapshot, world.populations
    laws = [world.population(name, x) for x in ("errors", "gradients")]
    made = [recipe, world, *laws, *map(random_matrix.predict, laws)]
    made += [random_matrix.law_of(refspec.datasets.wine_sklearn())]
    made += [random_matrix.spacings(refspec.spectrum(s))]
    made += [random_matrix.predict_fit(3, 12, 100, signal=9.0, decay=0.01)]
    made += [refspec.sweep(lambda n, rng: n * rng.random(), "n", [1, 2], draws=2)]
    kfac = kronecker.kfac(s, name)
    made += [testing.assert_operator(refspec.fisher(s).matrix(), s), Study(s)]
    made += [all_theorems()[0], Verdict(0.0, 1.0), rounding.Bounded(1.0, 0.0)]
    made += [rounding.certified_eigenvalues(kfac.left)]
    values, weights = np.ones((6, 1, 4)), np.full((6, 1), 1 / 6)
    made += [refspec.ClassArray(values, weights, np.repeat(np.arange(3), 2))]
    judged = claims.judge(s, "F")
    found = judged[0]
    made += [
        judged,
        found,
        found.claim,
        *found.evidence,
        claims.edges(s),
        claims.collapse(s),
    ]
    made += [kronecker.nearest(s, name), refspec.shards.Here([refspec.fisher(s)])]
    made += [claims.signs(s), claims.member(s), claims.product_errors(s, name)]
    made += [refspec.shards.Part("network.zarr", (0, 6))]
    made += [refspec.spectrum(s).plot(), refspec.coverage.of_snapshot(s)]
    made += [refspec.verify.verify(s, theorems=all_theorems()[:2])]
    made += [implicit.operator(np.eye(4).__matmul__, values, 4).ends(1)]
    made += [claims.product_span(s, name), attribution.gradient_alignment(s, 2)]
    return [*made, refspec.density(s, probes=1), refspec.plan(s)]


def test_every_exported_type_prints_itself_in_a_few_lines():
    made = [*objects("digits_mlp"), *others()]
    # a message, what needs a cluster, an example of a test
    apart = {refspec.ExportError, refspec.shards.Cluster, LabelledNetwork}
    left = exported() - {type(x) for x in made} - apart
    assert not {x.__name__ for x in left if not inspect.isabstract(x)}
    assert not too_long(made)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_network_leads_to_prints_itself_in_a_few_lines(name):
    assert not too_long(objects(name))
