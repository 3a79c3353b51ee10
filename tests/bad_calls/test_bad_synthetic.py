"""Bad calls of refspec.synthetic, refspec.populations and refspec.strategies.

A row is the call, as it is shown, and what the refusal has to name.
"""

import numpy as np
import pytest
from hypothesis import Phase, find, settings

from refspec import populations
from refspec import strategies as rst
from refspec import synthetic as syn
from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import Recipe
from support.clear import assert_clear

NAN, INF = float("nan"), float("inf")
HUGE = 10**81
RNG = np.random.default_rng(0)
ERRORS = Population((1, 2), 3, np.ones((3, 2)), 1.0)
FEATURES = Population((1, 2), 4, np.ones((3, 1)), 1.0)
WORLD = syn.planted({"fc": ERRORS}, rng=RNG)
ONES = np.ones((3, 2))
LABELS = np.asarray([0, 1])
SCOPE = {"rst": rst, "populations": populations, "Recipe": Recipe}  # of the calls
SCOPE["KroneckerPopulation"] = KroneckerPopulation


def drawn(strategy):
    """Draw once from a strategy."""
    how = settings(max_examples=1, phases=[Phase.generate], database=None)
    return find(strategy, lambda _: True, settings=how)


def population(**given):
    """Make a population of which only what is given is wrong."""
    right = {"sizes": (1, 2), "dimension": 3, "weights": ONES, "within_covariance": 1.0}
    return Population(**{**right, **given})


def canonical(C=2, D=3, n=2, signal=1.0, alpha=0.25, rng=RNG, **given):
    """Draw the canonical model, one argument wrong."""
    return syn.canonical(C, D, n, signal=signal, alpha=alpha, rng=rng, **given)


def orthogonal(C=2, b=2, a=2, n=1, rng=RNG, **given):
    """Draw an orthogonal world, one argument wrong."""
    return syn.worlds.orthogonal(C, b, a, n, rng=rng, **given)


def softmax(labels=LABELS, C=2, confidence=1.0, spread=1.0, rng=RNG):
    """Draw softmax outputs, one argument wrong."""
    return syn.geometry.softmax_outputs(
        labels, C, confidence=confidence, spread=spread, rng=rng
    )


def fit(inputs=ONES[:2], labels=LABELS, **given):
    """Fit a logistic regression, one argument wrong."""
    return syn.fit_logistic(inputs, labels, **{"decay": 1.0, **given})


CALLS = [
    # geometry
    ("syn.geometry.simplex_gram(2.9)", "C"),
    ("syn.geometry.simplex_gram(1)", "C"),
    ("syn.geometry.simplex_gram(True)", "C"),
    ("syn.geometry.simplex_gram('3')", "C"),
    ("syn.geometry.simplex_gram(HUGE)", "C"),
    ("syn.geometry.simplex_gram(3, NAN)", "norm"),
    ("syn.geometry.simplex_gram(3, -1.0)", "norm"),
    ("syn.geometry.simplex_gram(3, 1e200)", "norm"),
    ("syn.geometry.orthogonal_gram([1.0, NAN])", "norms"),
    ("syn.geometry.orthogonal_gram([[1.0]])", "norms"),
    ("syn.geometry.orthogonal_gram([1.0, -1.0])", "norms"),
    ("syn.geometry.orthogonal_gram([1e200])", "norms"),
    ("syn.geometry.orthogonal_gram('abc')", "norms"),
    ("syn.geometry.overlap_gram(np.eye(3), np.ones(2))", "overlaps"),
    ("syn.geometry.overlap_gram(2 * np.eye(2), np.ones(2))", "overlaps"),
    ("syn.geometry.overlap_gram(np.triu(np.ones((2, 2))), np.ones(2))", "overlaps"),
    ("syn.geometry.means_of_gram(np.eye(2), 2.9)", "d"),
    ("syn.geometry.means_of_gram(np.eye(2), 1)", "gram"),
    ("syn.geometry.means_of_gram(-np.eye(2), 2)", "gram"),
    ("syn.geometry.means_of_gram(1j * np.eye(2), 2)", "gram"),
    ("syn.geometry.means_of_gram(np.full((2, 2), INF), 2)", "gram"),
    ("syn.geometry.means_of_gram(np.full((2, 2), 1e308), 2)", "gram"),
    ("syn.geometry.means_of_gram(np.zeros((0, 0)), 2)", "gram"),
    ("syn.geometry.means_of_gram(np.ones(3), 2)", "gram"),
    ("syn.geometry.means_of_gram(np.eye(2), 2, rng=0)", "rng"),
    ("syn.geometry.confusion(2.9)", "C"),
    ("syn.geometry.confusion(3, 1.5)", "alpha"),
    ("syn.geometry.confusion(3, NAN)", "alpha"),
    ("syn.geometry.confusion(3, '0.5')", "alpha"),
    ("softmax(rng=0)", "rng"),
    ("softmax(spread=-1.0)", "spread"),
    ("softmax(confidence=INF)", "confidence"),
    ("softmax(labels=[0, 2])", "labels"),
    ("softmax(labels=[0.0, 1.0])", "labels"),
    ("softmax(labels=[[0, 1], [1]])", "labels"),
    ("softmax(C=1)", "C"),
    # covariances
    ("syn.covariances.power_law(2.9, 1.0)", "d"),
    ("syn.covariances.power_law(-3, 1.0)", "d"),
    ("syn.covariances.power_law(HUGE, 1.0)", "d"),
    ("syn.covariances.power_law(3, -1.0)", "exponent"),
    ("syn.covariances.power_law(3, 1.0, INF)", "scale"),
    ("syn.covariances.toeplitz(0, 0.5)", "d"),
    ("syn.covariances.toeplitz(10**12, 0.5)", "d"),
    ("syn.covariances.toeplitz(3, 1.5)", "correlation"),
    ("syn.covariances.toeplitz(3, 0.5, -1.0)", "variance"),
    ("syn.covariances.low_rank_plus_noise(np.ones(3), 1.0)", "factor"),
    ("syn.covariances.low_rank_plus_noise(np.full((2, 1), NAN), 1.0)", "factor"),
    ("syn.covariances.low_rank_plus_noise(np.ones((2, 1)), -1.0)", "noise"),
    # populations
    ("population(sizes=(1.0, 2.0))", "sizes"),
    ("population(sizes=(3, -1))", "sizes"),
    ("population(sizes=(3, HUGE))", "sizes"),
    ("population(sizes=3)", "sizes"),
    ("population(sizes=())", "sizes"),
    ("population(dimension=2.9)", "dimension"),
    ("population(dimension=HUGE)", "dimension"),
    ("population(dimension=0)", "dimension"),
    ("population(weights=np.ones((2, 2)))", "weights"),
    ("population(weights=-ONES)", "weights"),
    ("population(weights=0 * ONES)", "weights"),
    ("population(weights=1e308 * ONES)", "weights"),
    ("population(weights=NAN * ONES)", "weights"),
    ("population(weights=1j * ONES)", "weights"),
    ("population(weights=[[1, 2], [3]])", "weights"),
    ("population(weights=None)", "weights"),
    ("population(within_covariance=NAN)", "within_covariance"),
    ("population(within_covariance=-1.0)", "within_covariance"),
    ("population(within_covariance='one')", "within_covariance"),
    ("population(within_covariance=(1.0,) * 3)", "within_covariance"),
    ("population(within_covariance=np.ones(2))", "within_covariance"),
    ("population(within_covariance=np.triu(np.ones((3, 3))))", "within_covariance"),
    ("population(within_covariance=1j * np.eye(3))", "within_covariance"),
    ("population(within_covariance=-np.eye(3))", "within_covariance"),
    ("population(global_mean=np.ones(2))", "global_mean"),
    ("population(class_means=np.full((2, 3), INF))", "class_means"),
    ("population(cross_means=np.ones((2, 3)))", "cross_means"),
    ("population(cross_covariance=np.ones((2, 3)))", "cross_covariance"),
    ("population(noise='cauchy')", "noise"),
    ("population(noise=3)", "noise"),
    ("population(noise='student')", "dof"),
    ("population(noise='student', dof=2.0)", "dof"),
    ("population(noise='student', dof=NAN)", "dof"),
    ("population(score_consistent=1)", "score_consistent"),
    ("population(weights=np.ones((3, 1)), score_consistent=True)", "score_consistent"),
    ("KroneckerPopulation(ERRORS, ERRORS)", "features"),
    ("KroneckerPopulation(ERRORS, None)", "features"),
    ("KroneckerPopulation(ERRORS, FEATURES, 2.0)", "coupling"),
    ("KroneckerPopulation(ERRORS, FEATURES, NAN)", "coupling"),
    (
        "populations.expect_predictable("
        "population(class_means=np.ones((2, 3)), class_covariance=1.0))",
        "class means",
    ),
    # worlds
    ("syn.planted([ERRORS], rng=RNG)", "populations"),
    ("syn.planted({}, rng=RNG)", "populations"),
    ("syn.planted({'x': None}, rng=RNG)", "populations"),
    ("syn.planted({3: ERRORS}, rng=RNG)", "name"),
    ("syn.planted({'x': FEATURES}, rng=RNG)", "populations"),
    ("syn.planted({'x': ERRORS}, rng=0)", "rng"),
    ("syn.planted({'x': ERRORS}, rng=None)", "rng"),
    ("syn.planted({'x': ERRORS}, rng=RNG, probabilities=9 * ONES)", "probabilities"),
    ("syn.planted({'x': ERRORS}, rng=RNG, probabilities=-ONES)", "probabilities"),
    ("syn.planted({'x': ERRORS}, rng=RNG, probabilities=NAN * ONES)", "probabilities"),
    ("syn.planted({'x': ERRORS}, rng=RNG, probabilities=np.eye(3))", "probabilities"),
    ("syn.planted({'x': ERRORS}, rng=RNG, dtype='float16')", "dtype"),
    ("syn.planted({'x': ERRORS}, rng=RNG, dtype=np.float64)", "dtype"),
    ("syn.planted({'x': ERRORS}, rng=RNG, xp='numpy')", "xp"),
    ("syn.planted({'x': ERRORS}, rng=RNG, provenance=[1])", "provenance"),
    ("syn.worlds.deepened(ERRORS, [])", "gains"),
    ("syn.worlds.deepened(ERRORS, [NAN])", "gains"),
    ("syn.worlds.deepened(ERRORS, [1e200])", "gains"),
    (
        "syn.worlds.deepened(population(cross_covariance=1e300), [1e100])",
        "cross_covariance",
    ),
    ("syn.worlds.deepened(ERRORS, 2.0)", "gains"),
    ("syn.worlds.deepened(None, [1.0])", "population"),
    ("syn.worlds.deepened(ERRORS, [1.0], 3)", "name"),
    ("WORLD.population('none')", "layer"),
    ("WORLD.population('fc', 'logits')", "of"),
    ("syn.expected_means(WORLD, 'none')", "layer"),
    ("syn.expected_levels(None, 'fc')", "world"),
    ("syn.expected_fisher(WORLD.snapshot)", "world"),
    ("syn.expectations.fisher_groups(None)", "world"),
    ("orthogonal(C=2.9)", "C"),
    ("orthogonal(b=1)", "b"),
    ("orthogonal(n=0)", "per_class"),
    ("orthogonal(n=2.9)", "per_class"),
    ("orthogonal(rng=0)", "rng"),
    ("orthogonal(error_noise=-1.0)", "error_noise"),
    ("orthogonal(feature_norm=NAN)", "feature_norm"),
    ("orthogonal(coupling=2.0)", "coupling"),
    ("orthogonal(error_noise=1e308, feature_noise=1e308)", "noises"),
    # logistic regression
    ("canonical(C=1)", "C"),
    ("canonical(D=1)", "D"),
    ("canonical(D=2.9)", "D"),
    ("canonical(n=-1)", "per_class"),
    ("canonical(signal=-1.0)", "signal"),
    ("canonical(signal=INF)", "signal"),
    ("canonical(alpha=0.0)", "alpha"),
    ("canonical(alpha=0.9)", "alpha"),
    ("canonical(rng=0)", "rng"),
    ("canonical(dtype='half')", "dtype"),
    ("syn.outlier_ratio(3, 1.0, NAN)", "alpha"),
    ("syn.logistic.bump_ratio(2.9, 1.0, 0.5)", "C"),
    ("syn.logistic.outlier_eigenvectors(3, 2)", "D"),
    ("syn.logistic.bayes_error(1, 1.0)", "C"),
    ("syn.logistic.bayes_error(HUGE, 1.0)", "C"),
    ("syn.logistic.bayes_error(2**40, 1.0)", "C"),
    ("syn.logistic.bayes_error(3, -1.0)", "t"),
    ("syn.logistic.bayes_error(3, 1e200)", "t"),
    ("fit(decay=0)", "decay"),
    ("fit(decay=-1.0)", "decay"),
    ("fit(decay=NAN)", "decay"),
    ("fit(max_steps=2.9)", "max_steps"),
    ("fit(max_steps=0)", "max_steps"),
    ("fit(inputs=np.ones(2))", "inputs"),
    ("fit(inputs=np.ones((2, 0)))", "inputs"),
    ("fit(inputs=np.full((2, 1), NAN))", "inputs"),
    ("fit(inputs=np.full((2, 1), 1e300))", "inputs"),
    ("fit(inputs=1j * np.ones((2, 1)))", "inputs"),
    ("fit(labels=[0, 2])", "class"),
    ("fit(labels=[0, 1, 1])", "labels"),
    ("fit(labels=[0.0, 1.0])", "labels"),
    ("fit(labels=[[0, 1]])", "labels"),
    ("fit(labels=None)", "labels"),
    ("fit(labels=[[0, 1], [1]])", "labels"),
    ("syn.observe_logistic(np.ones((2, 1)), LABELS, np.ones((2, 2)))", "weight"),
    ("syn.observe_logistic(np.ones((2, 1)), LABELS, np.ones((2, 1)), xp=3)", "xp"),
    # recipes
    ("Recipe(classes=1)", "classes"),
    ("Recipe(classes=2.9)", "classes"),
    ("Recipe(classes='ten')", "classes"),
    ("Recipe(dim=0)", "dim"),
    ("Recipe(dim=True)", "dim"),
    ("Recipe(dim=HUGE).plant()", "dim"),
    ("Recipe(per_class=2.9)", "per_class"),
    ("Recipe(per_class=0).plant()", "per_class"),
    ("Recipe(per_class=HUGE).plant()", "per_class"),
    ("Recipe(classes=3, per_class=(1, 2))", "per_class"),
    ("Recipe(means='cubic')", "means"),
    ("Recipe(means=None)", "means"),
    ("Recipe(strength=-1.0)", "strength"),
    ("Recipe(strength=NAN)", "strength"),
    ("Recipe(strength='3')", "strength"),
    ("Recipe(strength=1e200)", "strength"),
    ("Recipe(noise=NAN)", "noise"),
    ("Recipe(noise=(1.0, 2.0))", "noise"),
    ("Recipe(noise=-1.0).plant()", "within_covariance"),
    ("Recipe(fixed_cross=1)", "fixed_cross"),
    ("Recipe(covariance='round').plant()", "covariance"),
    ("Recipe(covariance=None)", "covariance"),
    ("Recipe(covariance='toeplitz').plant()", "toeplitz"),
    ("Recipe(covariance='toeplitz:nan').plant()", "toeplitz"),
    ("Recipe(covariance='low-rank:2.9').plant()", "low-rank"),
    ("Recipe(covariance='diagonal:0.5').plant()", "diagonal"),
    ("Recipe(law='cauchy')", "law"),
    ("Recipe(law='student').plant()", "dof"),
    ("Recipe(misclassification=2.0).plant()", "alpha"),
    ("Recipe(confidence=1.0, misclassification=0.5)", "misclassification"),
    ("Recipe(confidence=1.0, spread=-1.0).plant()", "spread"),
    ("Recipe(coupling=0.5).plant()", "coupling"),
    ("Recipe(coupling=2.0, feature_dim=20).plant()", "coupling"),
    ("Recipe(feature_dim=-1)", "feature_dim"),
    ("Recipe(gains=()).plant()", "gains"),
    ("Recipe(gains=(INF,))", "gains"),
    ("Recipe(gains=1.0)", "gains"),
    ("Recipe(seed=-1)", "seed"),
    ("Recipe(seed=1.5)", "seed"),
    ("Recipe().plant(dtype='float16')", "dtype"),
    ("syn.from_record({'x': 1})", "recipe"),
    ("syn.from_record({'classes': 'ten'})", "classes"),
    ("syn.from_record({'gains': [None]})", "gains"),
    ("syn.from_record([1, 2])", "record"),
    # strategies: refused when first drawn from, as in hypothesis
    ("drawn(rst.samples.class_sizes(max_classes=1))", "classes"),
    ("drawn(rst.samples.class_sizes(max_per_class=2.9))", "samples"),
    ("drawn(rst.samples.labels((0, 1)))", "sizes"),
    ("drawn(rst.samples.labels((1,)))", "sizes"),
    ("drawn(rst.samples.labels((1.5, 2)))", "sizes"),
    ("drawn(rst.samples.labels(3))", "sizes"),
    ("drawn(rst.samples.labels((1, 1), shuffled=1))", "shuffled"),
    ("drawn(rst.samples.sample_weights(0))", "samples"),
    ("drawn(rst.samples.sample_weights(2.9))", "samples"),
    ("drawn(rst.samples.sample_weights(2, dtype='float16'))", "dtype"),
    ("drawn(rst.probabilities(2, 1))", "classes"),
    ("drawn(rst.probabilities(2, 2, labels=[0, 5]))", "labels"),
    ("drawn(rst.probabilities(2, 2, dtype='int8'))", "dtype"),
    ("drawn(rst.class_arrays(max_dimension=0))", "dimension"),
    ("drawn(rst.class_arrays(cross=2))", "cross"),
    ("drawn(rst.layers(0, 2))", "samples"),
    ("drawn(rst.layers(2, 2, name=3))", "name"),
    ("drawn(rst.layers(2, 2, max_inputs=0))", "size a"),
    ("drawn(rst.layers(2, 2, probabilities=np.ones(2)))", "probabilities"),
    ("drawn(rst.layers(2, 2, xp=3))", "xp"),
    ("drawn(rst.snapshots(max_layers=0))", "layers"),
    ("drawn(rst.snapshots(weighted=3))", "weighted"),
    ("drawn(rst.networks(classes=1))", "classes"),
    ("drawn(rst.networks(max_width=2.9))", "width"),
    ("drawn(rst.labelled_networks(smooth=3))", "smooth"),
    ("drawn(rst.worlds(max_dimension=-1))", "dimension"),
    ("drawn(rst.worlds(score_consistent='yes'))", "score_consistent"),
    ("drawn(rst.symmetric_matrices(kinds=()))", "kinds"),
    ("drawn(rst.symmetric_matrices(kinds='plain'))", "kinds"),
    ("drawn(rst.symmetric_matrices(kinds=('round',)))", "kinds"),
    ("drawn(rst.symmetric_matrices(min_side=9))", "side"),
    ("drawn(rst.symmetric_matrices(max_side=10**9))", "side"),
    ("drawn(rst.symmetric_matrices(dtype='float16'))", "dtype"),
]


@pytest.mark.parametrize(("call", "names"), CALLS, ids=[call for call, _ in CALLS])
def test_a_bad_call_is_refused_in_a_sentence(call, names):
    assert_clear(lambda: eval(call, globals() | SCOPE), names=names)
