"""Networks through `export`: Fisher, KFAC, Hessian right within a bound, or refused."""

import pathlib

import pytest

from frameworks import comparisons
from frameworks.comparisons import Exported, case, compare_export
from frameworks.exports_table import main
from support.published_networks import PUBLISHED
from support.torch_networks import SMALL

pytestmark = pytest.mark.filterwarnings("ignore")

MADE = "makes its weight of other parameters"
NONE = "must have layers that can be exported"
REFUSED = {
    "tied weights": "shares a parameter",
    "weight used twice": "must make up the gradient",
    "a linear that computes something else": "must make up the gradient",
    "a hook that doubles": "must make up the gradient",
    **dict.fromkeys(
        ("weight norm, old", "weight norm", "spectral norm", "orthogonal", "pruned"),
        MADE,
    ),
    "curvlinops: a layer on both halves": "is called 2 times",
    "curvlinops: tied layers, one bias": "shares a parameter",
    "curvlinops: unet, flat": "must give logits of shape",
    "nngeometry: fully connected, cosine norm": "must make up the gradient",
    "nngeometry: softmax at the end": "take the softmax off",
    "hessian-eigenthings: tiny gpt, tied": "shares a parameter",
}
#: Of a suite's networks every so many are run; the page has all of them.
SOME = [name for name, x in PUBLISHED.items() if not x.slow][::6]
#: An input of a relu is exactly 0 on the padding: nothing is said of the Hessian.
KINKED = {"backpack: conv1d, no bias", "backpack: conv2d, no bias"}


@pytest.mark.parametrize("name", {**SMALL, **dict.fromkeys(SOME), **REFUSED})
def test_an_export_is_right_or_refused(name):
    found = compare_export(case(name))
    if name in REFUSED:
        assert REFUSED[name] in found
        return
    if isinstance(found, str):  # a network without any
        assert NONE in found
        return
    assert isinstance(found, Exported)
    assert all(off <= bound for off, bound in found.pairs)
    known = found.pairs[:3] if name in KINKED else found.pairs
    assert max(bound for _, bound in known) < 2.0**-20  # float32 would show
    made = found.made
    assert (made.model is None) == ("without_network" in made.provenance)


@pytest.mark.parametrize("name", ["conv, stride, dilation", "conv1d", "mlp, tanh"])
def test_a_kfac_that_is_another_is_seen(monkeypatch, name):
    """The comparison can fail: expand for reduce, a factor off by one in a million."""
    kfac = comparisons.kfac
    turned = {"expand": "reduce", "reduce": "expand"}
    if name != "mlp, tanh":  # of one position both are the same
        monkeypatch.setattr(
            comparisons,
            "kfac",
            lambda s, k, setting: kfac(s, k, setting=turned[setting]),
        )
        found = compare_export(case(name)).kfac
        assert all(not off <= bound for off, bound in found.values())

    def longer(s, k, setting):
        found = kfac(s, k, setting=setting)
        return type(found)(found.left * (1 + 2.0**-20), found.right)

    monkeypatch.setattr(comparisons, "kfac", longer)
    found = compare_export(case(name)).kfac
    assert all(not off <= bound for off, bound in found.values())


def test_the_page_is_written(capsys):
    some = ["mlp, relu", "tied weights", "rnn", "curvlinops: mlp 8-5-3"]
    assert main(some) is False
    shown = capsys.readouterr().out
    assert "covers all 83 parameters (3 modules)" in shown
    assert "| tied weights | refused [" in shown
    assert "module 'body' (RNN)" in shown
    assert "| curvlinops: mlp 8-5-3 | squares | [" in shown
    assert "4 networks: 3 right, 1 refused, 0 wrong" in shown


def test_the_page_that_is_kept_has_every_network():
    page = pathlib.Path(__file__).with_name("exports.md").read_text()
    for name in [*SMALL, *PUBLISHED]:
        assert f"\n| {name.partition(': ')[2] or name} | " in page
    assert " 0 wrong." in page
    assert "WRONG" not in page
