"""`refspec.torch` and `refspec.jax`: from a model to a picture in one call."""

import numpy as np
import pytest

import refspec

X = np.random.default_rng(0).standard_normal((12, 4))
LABELS = np.arange(12) % 3
W = np.random.default_rng(1).standard_normal((4, 3))


def of_torch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(4, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(W.T))
    return refspec.torch, (model, [(torch.as_tensor(X), torch.as_tensor(LABELS))])


def of_jax():
    pytest.importorskip("jax")
    return refspec.jax, (lambda p, x: x @ p["W"], {"W": W}, [(X, LABELS)])


@pytest.mark.parametrize("door", [of_torch, of_jax])
def test_one_call_is_what_it_is_made_of(door):
    module, arguments = door()
    found = module.attribute(*arguments, top=3)
    same = refspec.attribute(module.moment(*arguments), top=3)
    assert np.array_equal(found.spectrum.values, same.spectrum.values)
    assert found.kinds == same.kinds
    whole = module.attribute(*arguments)
    gap = np.abs(whole.spectrum.values[:3] - found.spectrum.values).max()
    assert gap <= whole.radius + found.radius
    assert len(whole.plot()._repr_png_()) > 0
    assert "<caption>Attribution(" in whole._repr_html_()


def test_both_doors_show_one_network():
    (torch, of_first), (jax, of_second) = of_torch(), of_jax()
    one, other = torch.attribute(*of_first), jax.attribute(*of_second)
    gap = np.abs(one.spectrum.values - other.spectrum.values).max()
    assert gap <= one.radius + other.radius


def test_what_does_not_fit_is_refused_before_work():
    module, arguments = of_torch()
    with refspec.memory.within(1000), pytest.raises(ValueError, match="memory"):
        module.attribute(*arguments)
