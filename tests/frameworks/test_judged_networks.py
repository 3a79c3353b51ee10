"""The Gram matrix that networks are judged by, against rows of the whole network.

In float64, where bounds of rounding are narrower than what they watch; it is formed in
float32 by the same code, which compares entries with gradients.
"""

import numpy as np
import pytest

import refspec
from refspec import rounding

torch = pytest.importorskip("torch")

from networks import paper

U = 2.0**-53


def _made(family, monkeypatch):
    """Return an untrained network, eight times narrower, and a few random images."""
    monkeypatch.setattr(paper, "BLOCK", 70)  # so that there are several blocks
    torch.manual_seed(0)
    y = torch.arange(20) // 2
    X = torch.randn(20, 784)
    at = paper.Data(X, y, X, y)
    return paper.build(paper.Recipe(family), 8).eval(), at


def _sizes(built):
    """Return a bound of ||X||_F^2, no row being longer than its terms together, and k.

    k roundings: sums of a by-pairs layer have b + a + T^2 terms, of one multiplied out
    T + a b.
    """
    p, total, most = built.probabilities, 0.0, 0
    roots = np.sqrt(p / len(p))
    for x in built.layers:
        e = np.linalg.norm(x.errors, axis=3) * roots[:, :, None]
        lengths = np.sum(e * np.linalg.norm(x.features, axis=2)[:, None], axis=2)
        total += float(np.sum(lengths**2))
        T, b, a = *x.errors.shape[2:], x.features.shape[2]
        most = max(most, b + a + T * T, T + a * b)
    return total, most + len(built.layers) + 6


def _bound(built):
    """Bound ||error of XX'||_F, all products and sums rounded."""
    total, k = _sizes(built)
    return rounding.gamma(k, U) * total


@pytest.mark.parametrize("family", ["vgg11", "resnet18"])
def test_eigenvalues_of_the_gram_are_those_of_rows(family, monkeypatch):
    monkeypatch.setattr(paper, "LEFT", 0.0)
    model, at = _made(family, monkeypatch)
    built, _ = paper.snapshot(model, at, np, {})
    made, last, _ = paper.compact(model, at, torch.float64)
    right = refspec.spectrum(refspec.fisher(built))
    found = refspec.spectrum(made)
    values, wanted = np.zeros((2, 200))
    values[: len(found.values)] = found.values
    wanted[: len(right.values)] = right.values
    # eigenvalues that are left out are no more than this part
    cut = 2 * U * float(np.sum(wanted))
    bound = _bound(built) + cut + right.radius + found.radius
    assert np.max(np.abs(values - wanted)) <= bound
    # errors that are off by a millionth would be seen
    assert np.max(np.abs((1 + 1e-6) ** 2 * values - wanted)) > bound
    assert [x.name for x in last.layers] == [built.layers[-1].name]


def test_rows_that_are_left_out_are_the_part_that_was_said(monkeypatch):
    monkeypatch.setattr(paper, "LEFT", 0.05)
    model, at = _made("resnet18", monkeypatch)
    built, _ = paper.snapshot(model, at, np, {})
    made, *_ = paper.compact(model, at, torch.float64)
    right = refspec.spectrum(refspec.fisher(built))
    found = refspec.spectrum(made)
    lost = float(np.sum(right.values) - np.sum(found.values))
    n = len(right.values)
    radius = _bound(built) + n * (right.radius + found.radius)
    left = paper.LEFT * _sizes(built)[0]
    assert radius < lost <= left + radius


def test_a_gram_that_is_not_the_networks_is_refused(monkeypatch):
    model, at = _made("vgg11", monkeypatch)
    right = paper._add_gram

    def wrong(made, h, e, sample):
        right(made, h, 1.001 * e, sample)

    monkeypatch.setattr(paper, "_add_gram", wrong)
    with pytest.raises(ValueError, match="entries must be torch's products"):
        paper.compact(model, at)


def test_pairs_of_positions_are_rows_multiplied_out(monkeypatch):
    monkeypatch.setattr(paper, "BLOCK", 6)
    rng = np.random.default_rng(0)
    e, h = rng.standard_normal((4, 3, 2, 5)), rng.standard_normal((4, 2, 7))
    rows = np.einsum("ictb,ita->icba", e, h).reshape(12, -1)
    for a in (7, 3):  # by pairs; multiplied out
        made = torch.zeros((12, 12), dtype=torch.float64)
        own = torch.arange(12) // 3
        flat = torch.tensor(e).flatten(0, 1)
        paper._add_gram(made, torch.tensor(h[..., :a]), flat, own)
        some = rows.reshape(12, 5, 7)[:, :, :a].reshape(12, -1)
        wanted = some @ some.T
        k = 5 * 7 + 2
        sizes = np.sum(
            np.linalg.norm(e, axis=3) * np.linalg.norm(h, axis=2)[:, None], 2
        )
        bound = rounding.gamma(k, 2.0**-53) * np.outer(sizes, sizes)
        lower = np.tri(12, dtype=bool)
        assert np.all(np.abs(made.numpy() - wanted)[lower] <= 2 * bound[lower])
