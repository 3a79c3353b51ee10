import numpy as np
import pytest

import refspec
from refspec import (
    attribution,
    backend,
    coordinates,
    curvature,
    rounding,
    spectra,
    structure,
)
from support.snapshots import rows_of, sampled

U = 2.0**-53


@pytest.mark.parametrize("T", [1, 3])
def test_every_view_of_the_fisher_agrees(asarray, T):
    snapshot = sampled(T=T, asarray=asarray)
    moment, X = curvature.fisher(snapshot), rows_of(snapshot)
    trace = (X * X).sum()
    bound = 4 * rounding.second_moment_radius(sum(X.shape) + 20, trace, U)
    host = backend.to_host
    assert np.abs(host(moment.matrix()) - X.T @ X).max() <= bound
    assert np.abs(host(moment.gram()) - X @ X.T).max() <= bound
    assert abs(moment.trace() - trace) <= bound
    v = np.random.default_rng(1).standard_normal(X.shape[1])
    out = host(moment.matvec(asarray(v)))
    assert np.abs(out - X.T @ (X @ v)).max() <= bound * np.linalg.norm(v)
    order = np.kron  # the swapped order is another matrix
    x = snapshot.layers[0]
    h, e = host(x.features)[0, 0], host(x.errors)[0, 0, 0]
    assert np.abs(order(h, e) - order(e, h)).max() > bound


def test_every_view_of_a_level_agrees(asarray):
    """With the rows projected, matrix, Gram, trace and products are those of QX."""
    snapshot = sampled(asarray=asarray)
    moment, X, host = curvature.fisher(snapshot), rows_of(snapshot), backend.to_host
    trace, v = (X * X).sum(), np.random.default_rng(1).standard_normal(X.shape[1])
    bound = 8 * rounding.second_moment_radius(2 * sum(X.shape) + 64, trace, U)
    for level in structure.decompose(moment).levels.values():
        there = asarray(X.reshape(*moment.weights.shape, -1))
        Y = host(level.project(there)).reshape(X.shape)
        assert (Y * Y).sum() < trace - bound  # not the whole
        assert np.abs(host(level.matrix()) - Y.T @ Y).max() <= bound
        assert np.abs(host(level.gram()) - Y @ Y.T).max() <= bound
        assert abs(level.trace() - (Y * Y).sum()) <= bound
        out = host(level.matvec(asarray(v)))
        assert np.abs(out - Y.T @ (Y @ v)).max() <= bound * np.linalg.norm(v)


@pytest.mark.parametrize("T", [1, 3])
def test_features_and_errors_weigh_as_they_are_defined(asarray, T):
    snapshot = sampled(T=T, asarray=asarray)
    x, s = snapshot.layers[0], backend.to_host(snapshot.sample_weights)
    p = backend.to_host(snapshot.probabilities)
    h, d = (backend.to_host(y) for y in (x.features, x.errors))
    h, d = h.reshape(len(h), -1), d.reshape(*d.shape[:2], -1)
    assert np.ptp(s) > 0  # unequal weights, or squares would go unseen
    expected = {
        "features": sum(s[i] * np.outer(h[i], h[i]) for i in range(len(h))),
        "errors": sum(
            s[i] * p[i, k] * np.outer(d[i, k], d[i, k]) for i, k in np.ndindex(p.shape)
        ),
    }
    for of, truth in expected.items():
        found = backend.to_host(getattr(curvature, of)(snapshot, x.name).matrix())
        terms = 2 * d.size + 64
        bound = rounding.second_moment_radius(terms, float(np.trace(truth)), U)
        assert np.abs(found - truth).max() <= bound


@pytest.mark.parametrize("T", [1, 3])
def test_reduced_rows_and_dual_side_keep_the_spectrum(asarray, T):
    snapshot = sampled(T=T, asarray=asarray)
    moment, X = curvature.fisher(snapshot), rows_of(snapshot)
    rows, left_out = curvature.score_reduced(moment), curvature.scores(moment)
    assert left_out <= rounding.second_moment_radius(100, moment.trace(), U)
    assert rows.shape[1] == 2
    by_rows = coordinates.dual(moment)
    by_columns = coordinates.primal(moment)
    truth = np.linalg.svd(X, compute_uv=False) ** 2
    for at in (by_columns, by_rows):
        found = spectra.spectrum(at, certify=True)
        values = np.zeros(len(truth) + 50)
        computed = backend.to_host(found.values)
        values[: len(computed)] = computed
        padded = np.concatenate([truth, np.zeros(50)])
        assert np.abs(values - padded).max() <= 2 * found.radius
        assert not np.abs(values * 1.01 - padded).max() <= 2 * found.radius
    one, two = attribution.attribute(by_columns), attribution.attribute(by_rows)
    for name in one.traces:
        bound = len(truth) * (one.spectrum.radius + two.spectrum.radius)
        assert abs(one.traces[name] - two.traces[name]) <= bound


@pytest.mark.slow
def test_attribution_of_the_embedded_network_obeys_its_sandwich():
    moment = curvature.fisher(refspec.datasets.digits_mlp())
    result = attribution.attribute(moment)
    values = result.spectrum.values[: len(result.kinds)]
    assert (result.lower <= values).all()
    assert (values <= result.upper).all()
    total = sum(result.shares.values())
    assert np.abs(total - 1).max() <= rounding.gamma(8, U)
    assert result.kinds[0] == "outlier"
    assert result.proved[0]
    assert result.knockouts["between_class"][0] < values[0]


@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
def test_features_and_errors_of_every_layer(layer):
    snapshot = refspec.datasets.digits_mlp()
    for build in (curvature.features, curvature.errors):
        moment = build(snapshot, layer)
        result = attribution.attribute(moment)
        gap = abs(sum(result.traces.values()) - moment.trace())
        assert gap <= moment.shape[1] * result.spectrum.radius


def test_a_sample_without_weight_has_the_first_unit_vector():
    m = curvature.fisher(sampled(counts=(2, 2), empty=1))
    u = curvature.unit_weights(m)
    assert u[1].tolist() == [1.0, 0.0]
    assert np.abs(np.sum(u * u, axis=1) - 1).max() <= rounding.gamma(8, 2.0**-53)


@pytest.mark.parametrize("of", ["errors", "fisher"])
def test_errors_and_gradients_have_scores_that_vanish(of):
    """Each row times the root of its weight, summed over c'; features have none."""
    s = sampled(0, (3, 1, 4), ((3, 2),))
    moment = getattr(curvature, of)(s, *(["fc"] if of == "errors" else []))
    assert moment.scored
    X = moment.dot(np.eye(moment.shape[1]))
    terms = np.sqrt(moment.weights)[:, :, None] * X
    most = rounding.gamma(64, 2.0**-53) * np.abs(terms).sum()
    assert np.abs(terms.sum(axis=1)).max() <= most
    assert np.abs(X.sum(axis=1)).max() > most
    assert not curvature.features(s, "fc").scored
