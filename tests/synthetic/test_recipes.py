"""A recipe is plain data, plants the same world twice, and plants what it says."""

import json
import math

import array_api_strict
import numpy as np
import pytest

import refspec
from refspec import backend, rounding, synthetic
from refspec.populations import as_matrix
from refspec.synthetic import Recipe, covariances, from_record

U = 2.0**-53
RECIPES = [
    Recipe(classes=3, dim=5, per_class=2),
    Recipe(classes=3, dim=5, per_class=(1, 2, 3), means="random", cross_strength=2.0),
    Recipe(
        classes=2,
        dim=5,
        means="orthogonal",
        noise=(1.0, 2.0),
        covariance="toeplitz:0.5",
    ),
    Recipe(
        classes=3,
        dim=5,
        means="directions",
        confidence=2.0,
        spread=1.0,
        score_consistent=True,
    ),
    Recipe(classes=2, dim=3, feature_dim=4, coupling=0.5, law="student", dof=5.0),
    Recipe(
        classes=2,
        dim=3,
        feature_dim=4,
        means="random",
        cross_strength=1.0,
        gains=(1.0, 2.0),
    ),
    Recipe(classes=2, dim=6, means="none", global_strength=2.0, misclassification=1.0),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json_and_plants_one_world(recipe):
    read = from_record(json.loads(json.dumps(recipe.record())))
    assert read == recipe
    one, two = recipe.plant().snapshot, read.plant().snapshot
    for x, y in zip(one.layers, two.layers, strict=True):
        assert np.array_equal(x.errors, y.errors)
        assert np.array_equal(x.features, y.features)
    other = Recipe(**{**recipe.record(), "seed": 1}).plant().snapshot
    assert not np.array_equal(other.layers[0].errors, one.layers[0].errors)


def test_a_file_carries_its_recipe(tmp_path):
    recipe = RECIPES[1]
    path = refspec.save(recipe.plant(dtype="float32").snapshot, tmp_path / "w.npz")
    found = from_record(refspec.load(path).provenance["recipe"])
    assert found == recipe


def test_namespaces_and_precisions():
    plain = RECIPES[3].plant()
    strict = RECIPES[3].plant(dtype="float32", xp=array_api_strict).snapshot
    x = strict.layers[0].errors
    assert str(x.dtype).endswith("float32")
    wide = plain.snapshot.layers[0].errors
    assert np.array_equal(backend.to_host(x), wide.astype("float32"))


@pytest.mark.parametrize(
    "spec", ["isotropic", "diagonal:4", "power-law:1.5", "low-rank:2", "toeplitz:-0.3"]
)
def test_covariances_have_the_variance_asked_for(spec):
    d, variance = 7, 2.5
    S = as_matrix(
        covariances.from_words(spec, d, variance, np.random.default_rng(0)), d
    )
    bound = rounding.gamma(8 * d, U) * d * variance
    assert abs(np.trace(S) - d * variance) <= bound
    assert np.linalg.eigvalsh(S)[0] > 0


@pytest.mark.parametrize(("kind", "cosine"), [("simplex", -0.5), ("orthogonal", 0.0)])
def test_means_have_their_length_and_angles(kind, cosine):
    recipe = Recipe(classes=3, dim=8, means=kind, strength=2.0)
    m = recipe.plant().populations["layer1"].class_means
    gram = m @ m.T
    bound = rounding.gamma(200, U) * 4 * 3
    assert np.max(np.abs(np.diag(gram) - 4)) <= bound
    assert abs(gram[0, 1] - 4 * cosine) <= bound
    assert not abs(gram[0, 1] - 4 * (cosine + 0.1)) <= bound


def test_levels_are_random_or_fixed_as_said():
    kinds = {}
    for name, extra in {
        "random": {},
        "fixed": {"fixed_cross": True, "means": "simplex"},
        "features": {"feature_dim": 3},
    }.items():
        recipe = Recipe(
            **{"classes": 2, "dim": 4, "means": "random", "cross_strength": 1.0} | extra
        )
        law = recipe.plant().population("layer1", "errors")
        kinds[name] = (law.class_kind, law.cross_kind)
    assert kinds == {
        "random": ("random", "random"),
        "fixed": ("fixed", "fixed"),
        "features": ("fixed", "fixed"),
    }


def test_populations_of_all_three():
    world = Recipe(classes=2, dim=3, feature_dim=4).plant()
    assert world.population("layer1").dimension == 12
    assert world.population("layer1", "errors").K == 2
    features = world.population("layer1", "features")
    assert (features.K, features.dimension) == (1, 4)
    assert np.all(features.weights == 1 / 40)
    consistent = Recipe(classes=2, dim=3, feature_dim=4, score_consistent=True).plant()
    assert consistent.population("layer1", "features").K == 1
    assert consistent.population("layer1", "errors").score_consistent
    with pytest.raises(ValueError, match="'logits'"):
        consistent.population("layer1", "logits")


def test_means_of_a_consistent_world():
    """sum_c' p_{c,c'} v_{c,c'} = 0 for class means as for every sample."""
    world = RECIPES[3].plant()
    features, errors = synthetic.expected_means(world, "layer1")
    weights, labels = world.populations["layer1"].weights, world.snapshot.labels
    mass = np.stack([weights[labels == c].sum(0) for c in range(3)])
    score = np.sum(mass[:, :, None] * errors, axis=1)
    scale = np.sum(mass[:, :, None] * np.abs(errors), axis=1)
    assert np.all(np.abs(score) <= rounding.gamma(80, U) * scale)
    assert np.all(features == 1)
    wrong = np.sum(mass.T[:, :, None] * errors, axis=1)
    assert not np.all(np.abs(wrong) <= rounding.gamma(80, U) * scale)


def test_fisher_groups_are_those_known_and_add_up():
    known = synthetic.worlds.orthogonal(
        2, 3, 4, 5, rng=np.random.default_rng(0), error_noise=3.0, feature_noise=0.25
    )
    assert synthetic.expectations.fisher_groups(known) == known.groups
    computed = synthetic.expectations.fisher_groups(
        synthetic.World(known.snapshot, known.populations, known.probabilities)
    )
    want = sorted((g for g in known.groups), key=lambda g: -g.value)
    assert [g.multiplicity for g in computed] == [
        g.multiplicity for g in want if g.multiplicity
    ]
    scale = want[0].value
    for a, b in zip(computed, (g for g in want if g.multiplicity), strict=True):
        assert abs(a.value - b.value) <= rounding.gamma(2000, U) * scale


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 1}, "got 1"),
        ({"means": "cubic"}, "got 'cubic'"),
        ({"per_class": (1, 2, 3)}, "got 3"),
        ({"strength": -1.0}, "got -1"),
        ({"strength": math.nan}, "got nan"),
        ({"confidence": 1.0, "misclassification": 0.5}, "0.5 and 1.0"),
        ({"seed": -1}, "got -1"),
        ({"covariance": "round"}, "got 'round'"),
        ({"covariance": "toeplitz"}, "correlation of neighbours after a colon"),
        ({"covariance": "toeplitz:x"}, "got 'toeplitz:x'"),
        ({"covariance": "toeplitz:2"}, "got 2.0"),
        ({"covariance": "isotropic:2"}, "takes no parameter"),
        ({"covariance": "low-rank:999"}, "got 'low-rank:999'"),
        ({"covariance": "diagonal:0.5"}, "got 'diagonal:0.5'"),
        ({"noise": -1.0}, "got a variance of -1"),
        ({"law": "cauchy"}, "got 'cauchy'"),
        ({"misclassification": 2.0}, "got 2"),
        ({"per_class": 0}, "got 0"),
        ({"means": "orthogonal", "dim": 5}, "got rank 10"),
        ({"misclassification": 1.0, "score_consistent": True}, "got 0"),
        ({"gains": ()}, r"got \[\]"),
    ],
)
def test_bad_input(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields).plant()


@pytest.mark.parametrize(
    ("record", "message"), [({"x": 1}, r"\['x'\]"), ({"classes": "ten"}, "ten")]
)
def test_bad_record(record, message):
    with pytest.raises(ValueError, match=message):
        from_record(record)
