"""Eigenvalues lie within their radius of the exact ones of the data as given."""

import itertools

import flint
import numpy as np
import pytest

import refspec
from refspec import backend, curvature, datasets, rounding, spectra
from refspec.factors import Factor, Factors
from refspec.rounding.certificates import certified_eigenvalues
from support.balls import BITS, enclosures, to_flint

MOMENTS = {
    "features": lambda s, layer: curvature.features(s, layer),
    "errors": lambda s, layer: curvature.errors(s, layer),
    "fisher": lambda s, _: curvature.fisher(s),
}


def rows_of(roots):
    """Plain vectors as rows."""
    return Factors((Factor(roots, None),))


def first_of_each_class(snapshot):
    """One sample a class, with equal weights: small enough for 200 bits."""
    rows = list(snapshot.offsets[:-1])
    layers = [
        refspec.Layer(x.name, x.features[rows], x.errors[rows]) for x in snapshot.layers
    ]
    probabilities = snapshot.probabilities[rows]
    return refspec.snapshot(layers, snapshot.labels[rows], probabilities=probabilities)


def exact(snapshot, kind, layer):
    """X X' in balls, Hadamard products of the layers; X'X of the errors, fewer."""
    s, p = snapshot.sample_weights, snapshot.probabilities
    N, C = p.shape
    if kind != "features":  # the product s p as the exact product of the two
        pairs = [(float(s[i]), float(q)) for i in range(N) for q in p[i]]
        roots = [(flint.arb(x) * flint.arb(y)).sqrt() for x, y in pairs]
    else:
        roots = [flint.arb(float(x)).sqrt() for x in s]
    scale = flint.arb_mat(len(roots), len(roots))
    for i, root in enumerate(roots):
        scale[i, i] = root
    total = flint.arb_mat(len(roots), len(roots))
    for x in snapshot.layers:
        if kind != "fisher" and x.name != layer:
            continue
        h = to_flint(x.features.reshape(N, -1))
        e = to_flint(x.errors.reshape(N * C, -1))
        if kind == "errors":
            return (scale * e).transpose() * (scale * e)
        H, E = (h * h.transpose()).tolist(), (e * e.transpose()).tolist()
        if kind == "features":
            return scale * flint.arb_mat(H) * scale
        for i, row in enumerate(E):
            for j, entry in enumerate(row):
                total[i, j] += entry * H[i // C][j // C]
    return scale * total * scale


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(MOMENTS))
@pytest.mark.parametrize("name", ["digits_mlp"])
def test_real_exports_lie_within_their_radii(name, kind):
    snapshot = first_of_each_class(getattr(datasets, name)())
    layer = snapshot.layers[-1].name
    with flint.ctx.workprec(BITS):
        true = enclosures(exact(snapshot, kind, layer))
    for certify in (False, True):
        moment = MOMENTS[kind](snapshot, layer)
        found = spectra.spectrum(moment, certify=certify)
        with flint.ctx.workprec(BITS):
            pairs = itertools.zip_longest(found.values, true)
            gaps = [float(abs(v - t).upper()) for v, t in padded(pairs)]
        assert max(gaps) <= found.radius
        assert not max(gaps) + 2.0**-30 * found.values[0] <= found.radius


def padded(pairs):
    """Where one side has fewer eigenvalues, the others are zero."""
    zero = flint.arb(0)
    for v, t in pairs:
        yield zero if v is None else flint.arb(float(v)), zero if t is None else t


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_radii_follow_the_precision(dtype):
    rng = np.random.default_rng(5)
    values = rng.standard_normal((12, 1, 5)).astype(dtype)
    weights = np.full((12, 1), 1 / 12, dtype)
    roots = (np.sqrt(weights)[:, :, None] * values)[:, :, None, :]
    moment = curvature.SecondMoment(rows_of(roots), weights, (0, 5, 12))
    found = spectra.spectrum(moment)
    X = roots[:, 0, 0].astype(np.float64)
    true = np.linalg.svd(X, compute_uv=False) ** 2
    assert found.values.dtype == dtype
    assert np.abs(found.values - true).max() <= found.radius
    u = rounding.unit_roundoff(weights)
    assert found.radius <= 1000 * u * moment.trace()
    assert found.kind.endswith("; eigensolver a priori")
    largest = spectra.spectrum(moment, top=2)
    assert largest.values.dtype == dtype
    assert np.abs(largest.values - true[:2]).max() <= largest.radius


def test_repeated_eigenvalues_and_zeros(asarray):
    """A design of equal blocks: every eigenvalue occurs twice, the rest are zero."""
    rows = np.kron(np.eye(2), [[1.0, 1.0], [1.0, -1.0]])
    values = np.concatenate([rows, np.zeros((4, 4))], axis=1)[:, None, None, :]
    moment = curvature.SecondMoment(
        rows_of(asarray(values)), asarray(np.ones((4, 1))), (0, 2, 4)
    )
    found = spectra.spectrum(moment)
    computed = np.zeros(8)
    computed[: found.values.shape[0]] = refspec.backend.to_host(found.values)
    assert np.abs(computed - [2, 2, 2, 2, 0, 0, 0, 0]).max() <= found.radius
    assert found.dimension == 8
    assert found.n_zero == 8 - found.values.shape[0]


def test_eigenvectors_diagonalise(asarray):
    A = np.random.default_rng(6).standard_normal((9, 9))
    A = A @ A.T
    moment = curvature.SecondMoment(
        rows_of(asarray(A[:, None, None, :])),
        asarray(np.ones((9, 1))),
        (0, 4, 9),
    )
    at = refspec.coordinates.coordinates(moment)
    found = spectra.spectrum(at, vectors=True)
    Q, second = (refspec.backend.to_host(x) for x in (found.vectors, at.second))
    gap = second @ Q - Q * refspec.backend.to_host(found.values)
    assert np.linalg.norm(gap, 2) <= len(Q) * found.radius


def test_the_solver_is_as_uncertain_as_the_matrix_is_large(asarray):
    A = asarray(np.diag([0.5, -4.0, 1.0]))
    values, radius = spectra.eigenvalues(A, backend.namespace(A))
    assert backend.to_host(values).tolist() == [1.0, 0.5, -4.0]
    assert radius == rounding.eigensolver_radius(3, 4.0, 2.0**-53)


def test_a_certified_radius_is_that_of_the_least_certain_eigenvalue():
    """A pair that cannot be told apart is known less well than one that is alone."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    A = (Q * [1.0, 1.0 + 2.0**-50, 0.5, 0.25, 0.125, 0.0625]) @ Q.T
    A = (A + A.T) / 2
    proof = certified_eigenvalues(A)
    assert 2 * proof.radii.min() < proof.radii.max()
    _, _, radius, kind = spectra._solve(A, False, True, np)
    assert (radius, kind) == (proof.radii.max(), "certified")


def test_parts_are_averaged_where_radii_do_not_separate_values():
    values, parts = (
        np.array([4.0, 3.5, 3.0, 1.0]),
        {"a": np.array([1.0, 2.0, 6.0, 5.0])},
    )
    together = spectra.cluster_means(values, 0.25, parts)["a"]
    assert together.tolist() == [3.0, 3.0, 3.0, 5.0]
    apart = spectra.cluster_means(values, np.nextafter(0.25, 0), parts)["a"]
    assert apart.tolist() == parts["a"].tolist()


def test_principal_angles_ascend():
    a, b = 0.25, 0.75
    U = np.array([[np.cos(a), 0], [0, np.cos(b)], [np.sin(a), 0], [0, np.sin(b)]])
    found = spectra.principal_angles(U, 2)
    assert np.abs(found - [a, b]).max() <= rounding.gamma(64, 2.0**-53)
    assert spectra.principal_angles(U[:, :0], 2).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_certified_radius_covers_the_dtype_that_values_come_in(dtype):
    s = datasets.digits_mlp()
    moment = curvature.features(s, "fc2")
    exact = refspec.spectrum(moment, certify=True)
    A = moment.matrix().astype(dtype)
    values, Q, radius, kind = spectra._solve(A, True, True, np)
    assert kind == "certified"
    assert values.dtype == Q.dtype == dtype
    u = float(np.finfo(dtype).eps) / 2
    if dtype == np.float32:  # the values themselves are rounded, each by this at most
        assert radius >= u * values[0]
        away = np.linalg.norm(moment.matrix() - A.astype(float))
        gap = np.abs(values.astype(float) - exact.values[: len(values)]).max()
        assert gap <= radius + exact.radius + away
    else:
        assert radius < u * values[0] * len(A)


def test_a_spectrum_says_how_each_part_of_its_radius_is_known():
    moment = curvature.features(datasets.digits_mlp(), "fc2")
    plain, proved = (refspec.spectrum(moment, certify=x) for x in (False, True))
    assert plain.kind.endswith("; eigensolver a priori")
    assert proved.kind == refspec.coordinates.coordinates(moment, certify=True).kind
    assert proved.radius < plain.radius
    assert plain.dimension == proved.dimension == moment.shape[1]
    assert proved.vectors is None
    vectors = refspec.spectrum(moment, vectors=True, certify=True).vectors
    assert np.array_equal(vectors, np.eye(len(proved.values)))


def test_a_certified_radius_covers_values_below_the_normal_numbers_of_the_dtype():
    """There a value is rounded by half the least number, whatever its size."""
    least = np.finfo(np.float32).smallest_subnormal
    a, b, c = (k * float(least) for k in (5, 1, 2))
    A = np.array([[a, b], [b, c]], np.float32)
    values, _, radius, _ = spectra._solve(A, False, True, np)
    middle, half = (a + c) / 2, np.hypot((a - c) / 2, b)
    true = np.array([middle + half, middle - half])
    far = np.abs(values.astype(float) - true).max()
    assert 0 < far <= radius <= 2 * float(least)
