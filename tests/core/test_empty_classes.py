"""Classes without a sample, and fewer samples than classes: no mass in any mean.

A published network may have classes that the data lack. Levels are compared with the
definition written out in loops, everything else with what is true of every snapshot.
"""

import itertools

import numpy as np
import pytest

import refspec
from refspec import (
    attribution,
    checks,
    claims,
    curvature,
    export,
    models,
    report,
    rounding,
    verify,
)
from refspec.kronecker import cfac, ekfac, kfac

EXACT = 2.0**-53
LABELS = {
    "between": (5, [0, 0, 2, 2, 2, 4, 4, 4]),
    "the first": (4, [1, 1, 2, 3, 3]),
    "the last": (4, [0, 0, 1, 2, 2]),
    "most": (7, [1, 1, 4]),
    "all but one": (3, [1, 1, 1, 1]),
    "all but a sample's": (3, [2]),
}


@pytest.fixture(params=LABELS)
def snapshot(request):
    C, labels = LABELS[request.param]
    rng = np.random.default_rng(0)
    network = models.mlp([4, 5, C], ["tanh"], rng=rng)
    return models.snapshot(network, rng.standard_normal((len(labels), 4)), labels)


def rows(snapshot):
    """Return the gradients g_{i,c'}, (N, C, P), and their weights (N, C)."""
    parts = [
        np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(
            *snapshot.probabilities.shape, -1
        )
        for x in snapshot.layers
    ]
    weights = snapshot.sample_weights[:, None] * snapshot.probabilities
    return np.concatenate(parts, 2), weights


def averaged(x, w):
    """Return the weighted mean of vectors, 0 where nothing weighs, and the weight."""
    mass = w.sum()
    return (w[:, None] * x).sum(axis=0) / (mass if mass > 0 else 1.0), mass


def levels(snapshot):
    """Return every level by its definition, one class and cross class at a time."""
    (g, w), C = rows(snapshot), snapshot.probabilities.shape[1]
    found = {
        name: np.zeros((g.shape[2],) * 2)
        for name in (
            "diagonal",
            "between_class",
            "between_cross_class",
            "within_cross_class",
        )
    }

    def add(name, v, weight=1.0):
        found[name] += weight * np.outer(v, v)

    for c in range(C):
        mine = snapshot.labels == c
        cell = [averaged(g[mine, k], w[mine, k]) for k in range(C)]
        others = [k for k in range(C) if k != c]
        means = np.stack([cell[k][0] for k in others])
        mean, mass = averaged(means, np.array([cell[k][1] for k in others]))
        add("diagonal", *cell[c])
        add("between_class", mean, mass)
        for k in others:
            add("between_cross_class", cell[k][0] - mean, cell[k][1])
        for i, k in itertools.product(np.flatnonzero(mine), range(C)):
            add("within_cross_class", g[i, k] - cell[k][0], w[i, k])
    return found


def bound(snapshot):
    """Bound the rounding of both sides: every entry is a sum of N C products or so."""
    g, w = rows(snapshot)
    k = 8 * w.size + 2 * g.shape[2] + 64
    return 4 * rounding.gamma(k, EXACT) * float(np.sum(w[..., None] * g * g))


def test_levels_are_those_of_the_definition(snapshot):
    split, right = refspec.decompose(snapshot), levels(snapshot)
    for name, level in split.levels.items():
        assert np.linalg.norm(level.matrix() - right[name]) <= bound(snapshot)
    whole = sum(right.values())
    assert np.linalg.norm(split.total.matrix() - whole) <= bound(snapshot)


def test_shares_and_spectra_are_right(snapshot):
    fisher = curvature.fisher(snapshot)
    found = refspec.spectrum(fisher)
    exact = np.linalg.eigvalsh(fisher.matrix())[::-1][: len(found.values)]
    assert np.all(np.abs(found.values - exact) <= found.radius + bound(snapshot))
    made = attribution.attribute(snapshot)
    total = sum(made.shares.values())
    r, P = len(total), fisher.shape[1]
    assert np.all(np.abs(total - 1) <= rounding.gamma(8 * P * P, EXACT) + r * EXACT)
    assert abs(sum(made.traces.values()) - fisher.trace()) <= bound(snapshot)
    for layer in ("linear1", "linear2"):
        for of in (refspec.features, refspec.errors):
            part = attribution.attribute(of(snapshot, layer))
            assert np.all(np.isfinite(part.spectrum.values))


def test_kronecker_approximations_are_those_without_the_class(snapshot):
    """CFAC is a mixture over classes: one without mass adds nothing."""
    C = snapshot.probabilities.shape[1]
    for layer in snapshot.layers:
        right = np.zeros((layer.parameters,) * 2)
        for c in np.unique(snapshot.labels):
            mine = snapshot.labels == c
            s = snapshot.sample_weights[mine]
            p = snapshot.probabilities[mine] * s[:, None]
            e, h = layer.errors[mine][:, :, 0], layer.features[mine][:, 0]
            left = np.einsum("nc,ncb,ncd->bd", p, e, e)
            inner = np.einsum("n,na,nd->ad", s, h, h)
            right += np.kron(left, inner) / s.sum()
        made = np.asarray(cfac(snapshot, layer.name).matrix())
        assert np.linalg.norm(made - right) <= bound(snapshot) * C
        for approximation in (kfac, ekfac):
            made = np.asarray(approximation(snapshot, layer.name).matrix())
            assert np.all(np.isfinite(made))


@pytest.mark.slow
def test_every_statement_about_data_holds(snapshot):
    records = list(verify.verify(snapshot))
    assert {x.status for x in records} <= {"holds", "unmet"}
    assert sum(x.status == "holds" for x in records) > len(records) / 2


def test_files_keep_empty_classes(snapshot, tmp_path):
    read = export.load(export.save(snapshot, tmp_path / "run.npz"))
    assert read.offsets == snapshot.offsets
    assert len(read.offsets) == snapshot.probabilities.shape[1] + 1


def test_a_huge_label_alone_makes_no_huge_array():
    """Where labels alone tell C, as those of a ClassArray, every class has a sample."""
    for labels in ([0, 10**12], [0, 0, 2]):
        with pytest.raises(ValueError, match="every class"):
            checks.sorted_labels(np.array(labels), len(labels), None)
    assert checks.sorted_labels(np.array([0, 2]), 2, 4)[1] == (0, 1, 1, 2, 2)


@pytest.mark.slow
def test_claims_and_a_report_of_two_empty_classes():
    C, labels = LABELS["between"]
    rng = np.random.default_rng(0)
    network = models.mlp([4, 5, C], ["tanh"], rng=rng)
    given = models.snapshot(network, rng.standard_normal((len(labels), 4)), labels)
    contents = report.collect(given, theorems=())
    assert "of 0 to 3 samples" in report.render(contents)
    verdicts = {x.claim.id: x.verdict for x in contents.findings}
    assert verdicts == {x.claim.id: x.verdict for x in claims.judge(given)}
    assert {verdicts[x] for x in "FEGWD"} <= {*claims.VERDICTS} - {"cannot be judged"}
