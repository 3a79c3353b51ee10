"""Both ends of a symmetric matrix that is known by its products."""

import numpy as np
import pytest

from refspec import backend, curvature, hessian, implicit, models, rounding
from refspec.attribution import attribute_hessian

U = 2.0**-53


def matrix(n=60, seed=0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = np.concatenate(
        [[5.0, 4.0, 4.0], 0.1 * rng.standard_normal(n - 5), [-2, -3]]
    )
    A = (Q * values) @ Q.T
    return (A + A.T) / 2, np.sort(values)[::-1]


def of(A, **how):
    return implicit.operator(lambda V: A @ V, A, A.shape[0], **how)


def test_ends_are_those_of_the_matrix(asarray):
    A, values = matrix()
    H = of(asarray(A))
    found = H.ends(3)
    true = np.concatenate([values[:3], values[-3:]])
    solver = 4 * rounding.eigensolver_radius(60, 5.0, U)
    assert np.abs(found.values - true).max() <= found.radius + solver
    assert found.radius <= 2.0**-20
    assert not np.abs(found.values * (1 + 2.0**-18) - true).max() <= found.radius
    V = backend.to_host(found.vectors)
    away = A @ V - V * found.values
    assert np.linalg.norm(away, axis=0).max() <= found.radius + solver
    assert H.norm >= 5.0
    assert np.array_equal(backend.to_host(H.matrix()), backend.to_host(H.matrix()).T)


def test_a_definite_matrix_has_ends_too():
    A = np.diag(np.arange(1.0, 21.0))
    found = of(A).ends(2)
    assert np.abs(found.values - [20, 19, 2, 1]).max() <= found.radius
    zero = of(np.zeros((5, 5))).ends(1)
    assert np.abs(zero.values).max() <= zero.radius


def test_what_is_not_symmetric_is_refused():
    A, _ = matrix()
    A = A + 1e-3 * np.triu(A)
    with pytest.raises(ValueError, match="products with one matrix"):
        of(A)


def test_the_error_is_measured_in_another_precision():
    A, _ = matrix()
    narrow = A.astype(np.float32)
    H = of(narrow, other=(lambda V: A @ V, A))
    error = np.linalg.norm(narrow - A)
    assert error <= H.lost <= 1000 * np.linalg.norm(A) * 2.0**-24
    wide = of(A, other=(lambda V: narrow @ V, narrow))
    assert of(A).lost < wide.lost <= H.lost * 2.0**-28


@pytest.mark.parametrize("k", [0, 31, 1.5, True])
def test_no_more_than_half_at_each_end(k):
    with pytest.raises((ValueError, TypeError), match=r"k must"):
        of(matrix()[0]).ends(k)


def test_wrong_arguments_are_refused():
    A, _ = matrix()
    with pytest.raises(TypeError, match="product must be callable"):
        implicit.operator(3, A, 60)
    with pytest.raises(ValueError, match="size must be"):
        implicit.operator(lambda V: V, A, 0)
    with pytest.raises(ValueError, match=r"V must have shape \(P, m\)"):
        of(A).dot(np.ones((3, 1)))


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_ends_of_a_hessian_are_attributed_as_the_whole_is(kind):
    rng = np.random.default_rng(0)
    network = models.mlp([4, 5, 3], kind, rng=rng)
    X, labels = rng.standard_normal((12, 4)), np.repeat(np.arange(3), 4)
    G = curvature.fisher(models.snapshot(network, X, labels))

    def product(V):
        return hessian.hessian_vector_product(network, X, labels, V)

    H = implicit.operator(product, X, G.shape[1])
    whole, ends = attribute_hessian(H, G), attribute_hessian(H, G, top=4)
    dense = attribute_hessian(hessian.hessian(network, X, labels), G, top=4)
    r = 2 * (whole.radius + ends.radius)
    pick = np.r_[:4, -4:0]
    for name in ("values", "fisher", "residual"):
        true, found = getattr(whole, name)[pick], getattr(ends, name)
        assert np.abs(found - true).max() <= r
    assert np.abs(dense.values - ends.values).max() <= r + dense.radius
    # a part turns with its eigenvector, by radius / gap times the norm
    gaps = np.abs(np.diff(whole.values)).min()
    turned = r + 8 * r * np.abs(whole.values).max() / gaps
    for name, part in whole.parts.items():
        assert np.abs(ends.parts[name] - part[pick]).max() <= turned
    assert np.abs(sum(ends.parts.values()) - ends.values).max() <= r
    assert abs(ends.weyl - whole.weyl) <= r
    assert ends.kinds[:2] == whole.kinds[:2]
    with pytest.raises(ValueError, match="k must lie in"):
        attribute_hessian(H, G, top=100)
