"""KFAC, EKFAC and CFAC: exact rationals, identities, the canonical model, solves."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refspec import Layer, backend, rounding, snapshot
from refspec.kronecker import (
    ClassFactors,
    KroneckerBasis,
    KroneckerSum,
    cfac,
    class_factors,
    compare_layer,
    damped_inverse,
    damped_solve,
    ekfac,
    factored_tikhonov,
    kfac,
    moments,
)
from refspec.kronecker.classwise import kfac_error, running_average
from refspec.kronecker.comparison import layer_fisher
from refspec.kronecker.conventions import CONVENTIONS, placement
from refspec.kronecker.damping import default_residual
from refspec.kronecker.eigensystems import certified_spectrum
from support.snapshots import sampled, seeds, slack

U = 2.0**-53
I1 = np.ones((1, 1, 1))
settings_ = pytest.mark.parametrize("setting", ["expand", "reduce"])


def canonical(C, D, t, alpha):
    """Theorem 8.1 with exact second moments: x = t e_c +- sqrt(D) e_j, p constant."""
    signs = np.concatenate([np.eye(D), -np.eye(D)]) * math.sqrt(D)
    labels = np.repeat(np.arange(C), 2 * D)
    x = t * np.eye(D)[labels] + np.tile(signs, (C, 1))
    p = np.full((C, C), alpha / (C - 1))
    np.fill_diagonal(p, 1 - alpha)
    p = p[labels]
    errors = p[:, None, :] - np.eye(C)
    layer = Layer("W", x[:, None, :], errors[:, :, None, :])
    return snapshot([layer], labels, probabilities=p)


def exact_factors(s, setting, fisher="exact"):
    """K4 by loops over fractions: pi_c, pi_c Delta_c and pi_c H_c."""
    layer = s.layers[0]
    whole = np.vectorize(Fraction, otypes=[object])
    h, d, p, w = map(
        whole, (layer.features, layer.errors, s.probabilities, s.sample_weights)
    )
    N, T, a = h.shape
    C, b = d.shape[1], d.shape[3]
    zero = Fraction(0)
    pi = np.full(C, zero)
    left, right = np.full((C, b, b), zero), np.full((C, a, a), zero)
    for i in range(N):
        c = s.labels[i]
        pi[c] += w[i]
        xs = h[i] if setting == "expand" else [sum(h[i]) / T]
        for x in xs:
            right[c] += w[i] / len(xs) * np.outer(x, x)
        for k in range(C):
            weight = p[i, k] if fisher == "exact" else Fraction(int(k == c))
            ys = d[i, k] if setting == "expand" else [sum(d[i, k])]
            for y in ys:
                left[c] += w[i] * weight * np.outer(y, y)
    return pi, left, right


def floats(x):
    return np.asarray(x, dtype=np.float64)


@settings_
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
@given(seed=seeds, T=st.integers(1, 3))
@example(seed=0, T=1)
def test_factors_are_the_exact_moments(setting, fisher, seed, T):
    """K4 against rationals; H weighted by p, and Delta without it, are rejected."""
    s = sampled(seed, (2, 1), [(3, 2)], T)
    pi, left, right = exact_factors(s, setting, fisher)
    found = kfac(s, "fc", fisher=fisher, setting=setting)
    by_class = cfac(s, "fc", fisher=fisher, setting=setting)
    layer = s.layers[0]
    k = layer.errors.size + 16
    w = s.sample_weights
    q = s.probabilities if fisher == "exact" else np.eye(2)[s.labels]
    sizes = (
        T * np.sum((w[:, None] * q)[:, :, None, None] * layer.errors**2),
        np.sum(w[:, None, None] * layer.features**2),
    )
    for x, whole, size in zip(
        (found.left, found.right), (left, right), sizes, strict=True
    ):
        error = np.linalg.norm(floats(whole.sum(axis=0) - np.vectorize(Fraction)(x)))
        assert error <= rounding.gamma(k, U) * size
    for c in range(2):
        for x, whole, size in (
            (by_class.lefts, left, sizes[0]),
            (by_class.rights, right, sizes[1]),
        ):
            assert np.linalg.norm(x[c] - floats(whole[c] / pi[c])) <= rounding.gamma(
                k, U
            ) * size / float(pi[c])
    parts = class_factors(
        layer, s.labels, s.probabilities, w, fisher=fisher, setting=setting
    )
    of_classes = parts.kfac()  # means over classes by their frequencies
    for one, two, size in zip(
        (of_classes.left, of_classes.right),
        (found.left, found.right),
        sizes,
        strict=True,
    ):
        assert np.linalg.norm(one - two) <= 2 * rounding.gamma(k, U) * size
    mutant = np.sum(layer.errors**2, axis=(2, 3))
    assert abs(np.trace(found.left) - np.sum(w[:, None] * mutant)) > (
        rounding.gamma(k, U) * sizes[0]
    )


@given(seed=seeds)
def test_cfac_is_exact_for_errors_constant_in_class(seed):
    """K6: with D_i = Delta_c the Fisher is CFAC; KFAC is not."""
    s = sampled(seed, (3, 2, 4), [(3, 2)])
    first = np.asarray(s.offsets[:-1])[s.labels]
    layer = Layer("fc", s.layers[0].features, s.layers[0].errors[first])
    s = snapshot(
        [layer],
        s.labels,
        probabilities=s.probabilities[first],
        sample_weights=s.sample_weights,
    )
    fisher, bound = layer_fisher(s, "fc"), slack(s)
    assert np.linalg.norm(fisher - cfac(s, "fc").matrix()) <= bound
    assert np.linalg.norm(fisher - kfac(s, "fc").matrix()) > bound


@pytest.mark.parametrize(("C", "D"), [(3, 4), (4, 4), (2, 3)])
def test_canonical_model(C, D):
    """K14: Theorem 8.1; KFAC has one group of C(C-1) values, its outliers erased."""
    t, alpha = 3.0, 0.3
    q, s_ = alpha / (C - 1), t * t
    a = q * (2 - alpha * C / (C - 1))
    s = canonical(C, D, t, alpha)
    truth = np.concatenate(
        [
            np.full(C, q * s_ * (1 - alpha) + a),
            np.full(C * (C - 2), q * s_ / C + a),
            np.full((D - C) * (C - 1), a),
            np.zeros(D),
        ]
    )
    group = np.concatenate(
        [
            np.full(C * (C - 1), a * (1 + s_ / C)),
            np.full((D - C) * (C - 1), a),
            np.zeros(D),
        ]
    )
    one, many, eigen = kfac(s, "W"), cfac(s, "W"), ekfac(s, "W")
    found = [many.certified_eigenvalues(), one.certified_eigenvalues()]
    found.append(certified_spectrum(layer_fisher(s, "W")))
    bound = slack(s) + max(radius for _, radius in found)
    for (values, _), expected in zip(found, (truth, group, truth), strict=True):
        assert np.max(np.abs(values - expected)) <= bound
    # same trace; C outliers against one group (C = 2 has no mini-bulk to confuse)
    assert abs(one.trace() - many.trace()) <= bound
    assert abs(eigen.trace() - many.trace()) <= bound
    if C > 2:
        assert np.max(np.abs(one.eigenvalues() - truth)) > bound
        found = compare_layer(s, "W")
        assert found.log10_error["cfac"] < found.log10_error["kfac"]
        assert found.frobenius_error["cfac"] * np.linalg.norm(truth) <= bound
        assert found.fisher.shape == (C * (C - 1),)
        assert np.max(np.sin(found.angles["cfac"])) <= bound / (truth[0] - truth[C])


@pytest.mark.parametrize(("C", "a", "b"), [(3, 5, 6), (4, 6, 7)])
def test_kfac_multiplies_the_number_of_outliers(C, a, b):
    """K13: class parts have rank C, their Kronecker product C^2, class x cross more."""
    rng = np.random.default_rng(C)
    h = rng.standard_normal((C, a))
    delta = rng.standard_normal((C, b))
    cross = rng.standard_normal((C, C - 1, b))
    cross -= cross.mean(axis=1, keepdims=True)  # one relation for each c
    cross = cross.reshape(-1, b)
    H, D = h.T @ h, delta.T @ delta
    truth = sum(
        np.kron(np.outer(x, x), np.outer(y, y)) for x, y in zip(delta, h, strict=True)
    )

    def rank(A):
        values, radius = certified_spectrum(A)
        radius += rounding.gamma(4 * C, U) * np.trace(A)  # A's own forming
        return int(np.sum(values > radius))

    assert rank(truth) == C
    assert rank(np.kron(D, H)) == C * C
    assert rank(np.kron(cross.T @ cross, H)) == C * min(C * (C - 2), b)
    mutant = np.kron(D - np.outer(delta[0], delta[0]), H)
    assert rank(mutant) == C * (C - 1)


@settings_
@pytest.mark.parametrize("fisher", ["exact", "empirical", "monte_carlo"])
@given(seed=seeds, T=st.integers(1, 3))
def test_ekfac_is_the_closest_in_its_basis(setting, fisher, seed, T):
    """K9: values are the Fisher's diagonal in the basis; the trace is the Fisher's."""
    s = sampled(seed, sides=[(3, 2)], T=T)
    draws = np.random.default_rng(seed)
    options = {"fisher": fisher, "setting": setting, "samples": 2}
    state = draws.bit_generator.state
    eigen = ekfac(s, "fc", rng=draws, **options)
    draws.bit_generator.state = state
    one = kfac(s, "fc", rng=draws, **options)
    draws.bit_generator.state = state
    s = drawn_snapshot(s, fisher, draws, 2)
    F = layer_fisher(s, "fc")
    n = len(F)
    bound = slack(s, 16 * n * n)
    Q = np.kron(eigen.left, eigen.right)
    diagonal = np.sum(Q * (F @ Q), axis=0)
    assert np.linalg.norm(np.ravel(eigen.values) - diagonal) <= bound
    assert abs(eigen.trace() - np.trace(F)) <= bound
    far = np.linalg.norm(F - one.matrix())
    assert np.linalg.norm(F - eigen.matrix()) <= far + bound
    if T > 1:  # mutant: the variances of positions taken as independent
        h, d = s.layers[0].features @ eigen.right, s.layers[0].errors @ eigen.left
        w = s.sample_weights[:, None] * s.probabilities
        mutant = np.einsum("nc,nctb,nta->ba", w, d**2, h**2)
        assert np.linalg.norm(eigen.values - mutant) > bound


def drawn_snapshot(s, fisher, rng, samples):
    """The same snapshot whose probabilities are the label frequencies of a Fisher."""
    N, C = s.probabilities.shape
    if fisher == "exact":
        return s
    if fisher == "empirical":
        q = np.eye(C)[s.labels]
    else:
        edges = np.cumsum(s.probabilities, axis=1)
        u = rng.random((N, samples, 1)) * edges[:, None, -1:]
        q = np.mean(np.eye(C)[np.argmax(edges[:, None, :] > u, axis=2)], axis=1)
    return snapshot(
        list(s.layers), s.labels, probabilities=q, sample_weights=s.sample_weights
    )


def test_monte_carlo_is_unbiased():
    """K7: within Hoeffding's bound of the exact factor; the empirical one is not."""
    s = sampled(5, (2, 2, 2), [(3, 2)], sharpness=2.0)
    M, b = 40_000, 2
    exact = kfac(s, "fc").left
    found = kfac(
        s, "fc", fisher="monte_carlo", rng=np.random.default_rng(1), samples=M
    ).left
    outer = s.layers[0].errors[:, :, 0, :, None] * s.layers[0].errors[:, :, 0, None, :]
    ranges = np.max(outer, axis=1) - np.min(outer, axis=1)
    spread = np.sum((s.sample_weights[:, None, None] * ranges) ** 2, axis=0) / M
    bound = np.sqrt(spread * math.log(2 * b * b / rounding.FAILURE) / 2) + slack(s)
    assert np.all(np.abs(found - exact) <= bound)
    wrong = kfac(s, "fc", fisher="empirical").left
    assert np.any(np.abs(wrong - exact) > bound)


def test_monte_carlo_of_a_certain_label_is_exact():
    """K7: one-hot probabilities leave nothing to draw, and p = 0 is never drawn."""
    s = drawn_snapshot(sampled(3, sides=[(3, 2)]), "empirical", None, 1)
    exact, rng = kfac(s, "fc"), np.random.default_rng(0)
    drawn = kfac(s, "fc", fisher="monte_carlo", rng=rng)
    observed = kfac(s, "fc", fisher="empirical")
    assert np.array_equal(drawn.left, observed.left)
    assert np.linalg.norm(drawn.left - exact.left) <= slack(s)


@pytest.mark.parametrize("method", [kfac, ekfac, cfac])
def test_one_label_is_drawn_where_no_number_is_given(method):
    s = sampled(3, sides=[(3, 2)])

    def drawn(**options):
        rng = np.random.default_rng(0)
        return method(s, "fc", fisher="monte_carlo", rng=rng, **options).matrix()

    assert np.array_equal(drawn(), drawn(samples=1))
    assert not np.array_equal(drawn(), drawn(samples=2))
    given = (s.labels, s.probabilities, s.sample_weights)
    alone = class_factors(
        s.layers[0], *given, fisher="monte_carlo", rng=np.random.default_rng(0)
    )
    if method is cfac:
        assert np.array_equal(drawn(), alone.cfac().matrix())


def test_what_kfac_drops_is_the_covariance_between_classes():
    """K5, exact: whole numbers, and frequencies that are powers of two."""
    rng = np.random.default_rng(0)
    E, H = (rng.integers(-4, 5, (2, n, n)).astype(float) for n in (2, 3))
    factors = ClassFactors(np.asarray([0.25, 0.75]), E + E.mT, H + H.mT)
    dropped = factors.cfac().matrix() - factors.kfac().matrix()
    assert np.array_equal(kfac_error(factors).matrix(), dropped)
    assert np.any(dropped)


def test_variances_are_sums_over_blocks_of_samples(monkeypatch):
    """K9, with positions: a sample at a time, and all at once."""
    s = sampled(1, (2, 3), [(3, 2)], T=2)
    whole = ekfac(s, "fc").values
    monkeypatch.setattr(moments, "_BLOCK", 1)
    assert np.max(np.abs(ekfac(s, "fc").values - whole)) <= slack(s)


@given(seed=seeds, T=st.integers(2, 3))
def test_settings_are_kfac_of_other_snapshots(seed, T):
    """K8: expand is T N samples, reduce is N averaged ones; they differ."""
    s = sampled(seed, sides=[(3, 2)], T=T)
    layer, C = s.layers[0], 3
    N, _, a = layer.features.shape
    h = layer.features.reshape(N * T, 1, a)
    d = np.swapaxes(layer.errors, 1, 2).reshape(N * T, C, 1, -1) * math.sqrt(T)
    expanded = snapshot(
        [Layer("fc", h, d)],
        np.repeat(s.labels, T),
        probabilities=np.repeat(s.probabilities, T, axis=0),
        sample_weights=np.repeat(s.sample_weights / T, T),
    )
    h = layer.features.mean(axis=1, keepdims=True)
    d = layer.errors.sum(axis=2, keepdims=True)
    reduced = snapshot(
        [Layer("fc", h, d)],
        s.labels,
        probabilities=s.probabilities,
        sample_weights=s.sample_weights,
    )
    bound = slack(s)
    for method in (kfac, cfac):
        dense = {x: method(s, "fc", setting=x).matrix() for x in ("expand", "reduce")}
        assert (
            np.linalg.norm(method(expanded, "fc").matrix() - dense["expand"]) <= bound
        )
        assert np.linalg.norm(method(reduced, "fc").matrix() - dense["reduce"]) <= bound
        assert np.linalg.norm(dense["expand"] - dense["reduce"]) > bound


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_conventions_move_scalars(convention, T, fisher):
    """K8: the product times the block scale is KFAC, with two named deviations."""
    s = sampled(0, sides=[(3, 2)], T=T)
    N = len(s.labels)
    one = kfac(s, "fc", fisher=fisher)
    other = kfac(s, "fc", fisher=fisher, convention=convention)
    how = placement(convention, "expand", fisher, N=N, T=T, columns=2)
    product = how.block * other.matrix()
    if convention.startswith("kfac_jax") and fisher == "empirical":
        assert np.linalg.norm(product - one.matrix()) > slack(s)
        product = product * N
    if convention == "backpack" and T > 1:
        assert np.linalg.norm(product - one.matrix()) > slack(s)
        reduced = kfac(s, "fc", fisher=fisher, setting="reduce")
        one = type(one)(reduced.left, T * one.right)
    assert np.linalg.norm(product - one.matrix()) <= slack(s)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings_
def test_namespaces(asarray, dtype, setting):
    """The same numbers from every namespace, within each dtype's own roundoff."""
    s = sampled(1, sides=[(3, 2)], T=2, equal=True)
    layer = s.layers[0]
    N = len(s.labels)

    def convert(x):
        return asarray(x.astype(dtype))

    p = s.probabilities.astype(dtype)
    p = p / p.sum(axis=1, keepdims=True)
    other = snapshot(
        [Layer("fc", convert(layer.features), convert(layer.errors))],
        s.labels,
        probabilities=convert(p),
        sample_weights=convert(np.full(N, 1 / N)),
    )
    ratio = float(np.finfo(dtype).eps) / 2 / U
    bound = slack(s) * ratio * 2
    options = {"setting": setting, "samples": 3}
    for method in (kfac, cfac):
        for fisher in ("exact", "empirical"):
            x = method(s, "fc", fisher=fisher, **options).matrix()
            y = method(other, "fc", fisher=fisher, **options)
            assert backend.to_host(y.matrix()).dtype == dtype
            size = bound if fisher == "exact" else bound / np.min(s.probabilities)
            assert np.linalg.norm(backend.to_host(y.matrix()) - x) <= size
    y = kfac(other, "fc", fisher="monte_carlo", rng=np.random.default_rng(0), **options)
    assert backend.to_host(y.left).dtype == dtype
    y = ekfac(other, "fc", **options)
    assert abs(y.trace() - np.trace(layer_fisher(s, "fc"))) <= bound
    found = compare_layer(other, "fc", setting=setting)
    assert found.radius > 0
    factors = class_factors(
        other.layers[0], other.labels, other.probabilities, other.sample_weights
    )
    V = convert(np.ones((2, 3)))
    x = damped_solve(factors.cfac(), V, 1.0, factored_tikhonov(factors.kfac(), 1.0))
    assert x.residual <= default_residual(factors.cfac(), 1.0)
    average = running_average(factors, factors, 0.5).cfac().matrix()
    size = np.linalg.norm(backend.to_host(average - factors.cfac().matrix()))
    assert size <= bound


def test_degenerate_classes():
    """K4: a zero-weight class and an absent one are skipped; underflow keeps p = 0."""
    s = sampled(2, (2, 2, 3), [(3, 2)])
    w = np.where(s.labels == 1, 0.0, s.sample_weights)
    zero = snapshot(
        list(s.layers),
        s.labels,
        probabilities=s.probabilities,
        sample_weights=w / w.sum(),
    )
    keep = s.labels != 1
    layer = Layer("fc", s.layers[0].features[keep], s.layers[0].errors[keep])
    absent = class_factors(
        layer, s.labels[keep], s.probabilities[keep], (w / w.sum())[keep]
    )
    assert np.array_equal(cfac(zero, "fc").matrix(), absent.cfac().matrix())
    assert absent.frequencies[1] == 0
    p = np.asarray([[1.0, 1e-320, 0.0]] * 7)
    tiny = snapshot(list(s.layers), s.labels, probabilities=p)
    assert np.all(np.isfinite(cfac(tiny, "fc").matrix()))
    assert np.all(np.isfinite(ekfac(tiny, "fc").values))


def test_few_samples_give_the_spectrum_by_roots():
    """K3: roots are kept where they are smaller, and give the same spectrum."""
    s = sampled(4, (1, 1), [(9, 7)])
    operator = cfac(s, "fc")
    assert operator.roots is not None
    plain = KroneckerSum(operator.coefficients, operator.lefts, operator.rights)
    (x, one), (y, two) = (z.certified_eigenvalues() for z in (operator, plain))
    assert np.max(np.abs(x - y)) <= one + two
    assert cfac(sampled(4, sides=[(3, 2)]), "fc").roots is None


@given(seed=seeds, C=st.integers(2, 4), exponent=st.integers(-3, 1))
def test_solve(seed, C, exponent):
    """K12: the residual asked for is reached, and the solution is the dense one's."""
    s = sampled(seed, (3, 4, 2, 5)[:C], [(4, 3)])
    G, damping = cfac(s, "fc"), 10.0**exponent
    P = factored_tikhonov(kfac(s, "fc"), damping)
    V = np.random.default_rng(seed).standard_normal((3, 4))
    floor = default_residual(G, damping)
    found = damped_solve(G, V, damping, P)
    assert found.residual <= floor
    A = G.matrix() + damping * np.eye(12)
    exact = np.linalg.solve(A, V.ravel())
    condition = np.linalg.norm(A) / damping
    # ||x - x*|| <= ||r|| / damping, LAPACK's backward error on the other side
    error = floor * (1 + rounding.gamma(12, U)) / damping
    error += rounding.gamma(3 * 12**2, U) * condition / damping
    assert np.linalg.norm(found.value.ravel() - exact) <= error * np.linalg.norm(V)
    wrong = np.linalg.solve(A - damping * np.eye(12) / 2, V.ravel())
    assert np.linalg.norm(found.value.ravel() - wrong) > error * np.linalg.norm(V)
    loose = damped_solve(G, V, damping, P, relative_residual=0.5)
    assert loose.residual <= 0.5
    assert loose.iterations <= found.iterations


def test_solve_stops_where_it_is_told():
    s = sampled(0, (5, 5), [(6, 5)])
    G, P = cfac(s, "fc"), factored_tikhonov(kfac(s, "fc"), 1e-3)
    one = damped_solve(G, np.ones((5, 6)), 1e-3, P, iterations=1)
    more = damped_solve(G, np.ones((5, 6)), 1e-3, P)
    assert more.residual < one.residual
    zero = damped_solve(G, np.zeros((5, 6)), 1e-3, P)
    assert zero.residual == 0
    assert zero.iterations == 0


def test_the_residual_asked_for_is_what_rounding_allows():
    """K12: gamma of a + b + m + 3, of 1 + sum |c| ||L|| ||R|| / damping: 5 and 7."""
    lefts = np.stack([np.diag(x) for x in ([3.0, 4.0], [4.0, -3.0], [0.0, 5.0])])
    rights = np.stack([np.diag(np.roll([2.0, 3.0, 6.0], k)) for k in range(3)])
    G = KroneckerSum(np.asarray([1.0, -3.0, 4.0]), lefts, rights)
    g = rounding.gamma(3 + 2 + 3 + 3, U)
    assert default_residual(G, 0.5) == g * (1 + 8 * 35 / 0.5)
    assert default_residual(G, 1e-30) == 1


def test_a_preconditioner_that_is_the_inverse_solves_in_one_step():
    values = np.outer([1.0, 10.0, 100.0], [1.0, 5.0])
    G = KroneckerSum(np.ones(1), np.diag(values[:, 0])[None], np.diag(values[0])[None])
    basis = KroneckerBasis(np.eye(3), np.eye(2), values)
    found = damped_solve(G, np.ones((3, 2)), 0.5, damped_inverse(basis, 0.5))
    assert found.iterations == 1
    plain = KroneckerBasis(np.eye(3), np.eye(2), np.ones((3, 2)))
    assert damped_solve(G, np.ones((3, 2)), 0.5, plain).iterations > 1


def test_a_residual_whose_square_underflows_ends_the_solve():
    """Squares of 2^-600 are 0, and SciPy divides 0 by 0: neither told nor kept."""
    G = KroneckerSum(np.ones(1), np.diag([1.0, 3.0])[None], np.ones((1, 1, 1)))
    plain = KroneckerBasis(np.eye(2), np.eye(1), np.ones((2, 1)))
    V = np.asarray([[1.0], [2.0**-600]])
    found = damped_solve(G, V, 1.0, plain, relative_residual=0.0)
    assert found.value[0, 0] == 0.5
    assert found.residual <= 2.0**-599


def test_a_solution_has_the_precision_of_what_is_solved():
    eyes = [np.eye(n, dtype=np.float32) for n in (2, 3)]
    G = KroneckerSum(np.ones(1, dtype=np.float32), eyes[0][None], eyes[1][None])
    P = KroneckerBasis(*eyes, np.ones((2, 3), dtype=np.float32))
    found = damped_solve(G, np.ones((2, 3), dtype=np.float32), 1.0, P)
    assert found.value.dtype == np.float32


def test_preconditioner_is_exact_for_one_class_of_kfac():
    """K10: with factors that are multiples of I the first step solves."""
    factors = ClassFactors(np.ones(1), 2 * np.eye(3)[None], 5 * np.eye(4)[None])
    P = factored_tikhonov(factors.kfac(), 0.7)
    found = damped_solve(factors.cfac(), np.ones((3, 4)), 0.7, P)
    assert found.iterations == 1


@given(seed=seeds, decay=st.sampled_from([0.0, 0.5, 0.9]))
def test_running_average(seed, decay):
    """K11: the average of unnormalised moments; an absent class keeps its factors."""
    s = sampled(seed, (2, 3, 2), [(3, 2)])
    first = class_factors(s.layers[0], s.labels, s.probabilities, s.sample_weights)
    keep = s.labels != 2
    w = s.sample_weights[keep]
    layer = Layer("fc", s.layers[0].features[keep], 2 * s.layers[0].errors[keep])
    batch = class_factors(layer, s.labels[keep], s.probabilities[keep], w / w.sum())
    average = running_average(first, batch, decay)
    if decay > 0:
        assert np.array_equal(average.features[2], first.features[2])
    moment = decay * (first.frequencies[:, None, None] * first.errors)
    moment = moment + (1 - decay) * batch.frequencies[:, None, None] * batch.errors
    found = average.frequencies[:, None, None] * average.errors
    bound = rounding.gamma(16, U) * np.sum(np.abs(moment))
    assert np.linalg.norm(found - moment) <= bound
    plain = decay * first.errors + (1 - decay) * batch.errors  # the mutant
    assert decay == 0 or np.linalg.norm(average.errors - plain) > bound
    assert abs(np.sum(average.frequencies) - 1) <= rounding.gamma(24, U)


@pytest.mark.parametrize("new", [False, True])
def test_a_small_share_of_the_past_or_of_the_batch_is_kept(new):
    """K11: 1 - share would lose the other where its share is below a roundoff."""
    large = ClassFactors(np.asarray([2.0**-60]), np.full((1, 1, 1), 2.0**80), I1)
    both = [large, ClassFactors(np.ones(1), I1, I1)]
    average = running_average(*(both[::-1] if new else both), 0.5)
    moment = average.frequencies[0] * average.errors[0, 0, 0]
    exact = 0.5 * (2.0**20 + 1)
    assert abs(moment - exact) <= rounding.gamma(16, U) * exact


@pytest.mark.parametrize("dead", ["errors", "features"])
@pytest.mark.parametrize("side", [3, 40])
def test_a_dead_layer_is_compared(dead, side):
    """Nothing reaches it, or nothing leaves it: spectra of zeros, and no kinds."""
    s = sampled(0, sides=[(side, side)])
    x = s.layers[0]
    gone = {dead: np.zeros_like(getattr(x, dead))}
    s = dataclasses.replace(s, layers=(dataclasses.replace(x, **gone),))
    found = compare_layer(s, "fc")
    assert found.fisher.shape == (0,)
    tiny = np.finfo(float).smallest_normal
    assert found.radius <= 4 * tiny
    assert found.class_rank == {"fisher": 0, "kfac": 0, "cfac": 0}
    assert all(len(x) == 0 for x in found.kinds.values())
    assert not any(found.frobenius_error.values())
    for operator in (kfac(s, "fc"), cfac(s, "fc"), ekfac(s, "fc")):
        values, radius = operator.certified_eigenvalues()
        assert not np.any(values)
        assert radius <= 4 * tiny


@pytest.mark.parametrize("exponent", [-520, -300, 300, 600])
def test_a_comparison_does_not_depend_on_the_scale(exponent):
    """Squares of the features under- or overflow; the comparison is the same."""
    s = sampled(3, (4, 3, 5), [(3, 2)])
    x = s.layers[0]
    scaled = dataclasses.replace(
        x,
        features=np.ldexp(x.features, exponent),
        errors=np.ldexp(x.errors, -exponent),
    )
    other = dataclasses.replace(s, layers=(scaled,))
    here, there = compare_layer(s, "fc"), compare_layer(other, "fc")
    assert np.array_equal(here.fisher, there.fisher)
    assert here.kinds == there.kinds
    assert here.class_rank == there.class_rank
    assert here.log10_error == there.log10_error
    huge = dataclasses.replace(x, features=np.ldexp(x.features, 600))
    with pytest.raises(ValueError, match="must be representable"):
        compare_layer(dataclasses.replace(s, layers=(huge,)), "fc")


def test_compare_takes_a_fisher_and_ranks_the_approximations():
    s = sampled(11, (30, 20, 25), [(5, 4)], equal=True)
    F = layer_fisher(s, "fc")
    found, again = compare_layer(s, "fc"), compare_layer(s, "fc", F)
    both = found.radius + again.radius
    assert np.max(np.abs(found.fisher - again.fisher)) <= both
    assert (
        np.max(np.abs(found.fisher - np.linalg.eigvalsh(F)[::-1][:6])) <= found.radius
    )
    assert found.frobenius_error["cfac"] < found.frobenius_error["kfac"]
    assert found.frobenius_error["ekfac"] < found.frobenius_error["kfac"]
    assert found.angles["kfac"].shape == (3,)


S = sampled(0, sides=[(3, 2)], T=2)
LAYER = S.layers[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kfac(S, "fc", fisher="true"), "fisher must be"),
        (lambda: kfac(S, "fc", setting="average"), "setting must be one of"),
        (lambda: kfac(S, "fc", convention="asdl"), "convention must be one of"),
        (lambda: kfac(S, "fc", fisher="monte_carlo"), "rng must be a numpy.random"),
        (
            lambda: kfac(S, "fc", convention="nngeometry", setting="reduce"),
            "no reduce setting",
        ),
        (lambda: kfac(S, "conv"), "layer must be one of"),
        (lambda: ekfac(S, "fc", setting="both"), "setting must be one of"),
        (lambda: cfac(S, "fc", setting="both"), "setting must be one of"),
        (
            lambda: class_factors(
                LAYER, S.labels[::-1], S.probabilities, S.sample_weights
            ),
            "non-decreasing",
        ),
        (
            lambda: running_average(
                ClassFactors(np.ones(1), np.ones((1, 1, 1)), np.ones((1, 1, 1))),
                ClassFactors(np.ones(1), np.ones((1, 1, 1)), np.ones((1, 1, 1))),
                1.0,
            ),
            "decay must lie",
        ),
        (
            lambda: damped_solve(
                cfac(S, "fc"), np.ones((3, 2)), 1.0, factored_tikhonov(kfac(S, "fc"), 1)
            ),
            "V must have shape",
        ),
        (lambda: compare_layer(S, "fc", np.eye(2)), "fisher must have shape"),
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_one_error_at_several_positions_is_summed_too():
    """Reduce: b = 1, T = 2, so that a place for the other would be seen."""
    s = sampled(counts=(3, 2), sides=((3, 1),), T=2)
    x, w = s.layers[0], s.sample_weights[:, None] * s.probabilities
    total = x.errors.sum(axis=2)[:, :, 0]
    exact = float(np.sum(w * total**2))
    found = kfac(s, "fc", setting="reduce").left
    assert abs(found.item() - exact) <= rounding.gamma(64, 2.0**-53) * exact
