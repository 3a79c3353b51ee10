"""Networks through `export`: Fisher, KFAC, Hessian right within a bound, or refused."""

import pathlib

import pytest

from frameworks import comparisons
from frameworks.comparisons import Exported, case, compare_export
from frameworks.exports_table import main
from support.jax_networks import NETWORKS
from support.published_networks import PUBLISHED
from support.torch_networks import SMALL

pytestmark = pytest.mark.filterwarnings("ignore")

MADE = "makes its weight of other parameters"
NONE = "must have layers that can be exported"
GRADIENT = "must make up the gradient"
SHARED = "shares a parameter"
#: By sentence, names of one suite after another.
BY_SENTENCE = {
    MADE: {
        "": (
            "weight norm, old",
            "weight norm",
            "spectral norm",
            "orthogonal",
            "pruned",
        ),
    },
    GRADIENT: {
        "": (
            "weight used twice",
            "a hook that doubles",
            "a linear that computes something else",
        ),
        "nngeometry": (
            "fully connected, weight norm",
            "fully connected, cosine norm",
            "conv net, weight norm",
            "small conv net, weight norm",
        ),
    },
    SHARED: {
        "": ("tied weights",),
        "curvlinops": (
            "tied layers",
            "tied layers, one bias",
            "tied layers, two biases",
        ),
        "hessian-eigenthings": ("tiny gpt, tied",),
    },
    "is called 2 times": {
        "curvlinops": (
            "a layer on both halves",
            "a layer on both halves, bias",
        ),
    },
    "must give logits of shape": {
        "curvlinops": ("unet, flat",),
    },
    "must tell classes from positions": {
        "backpack": ("axes moved",),
    },
    "take the softmax off": {
        "nngeometry": ("softmax at the end",),
    },
    NONE: {
        "curvlinops": (
            "functional mlp",
            "a weight twice",
            "a product and a sum",
            "a weight twice, two biases",
            "a bias made of the weight",
            "a bias after a new shape",
        ),
        "nngeometry": (
            "small conv net, transposed",
            "embedding",
            "layer norm on tokens",
            "rms norm on tokens",
            "layer norm, no bias on tokens",
        ),
        "backpack": (
            "one position, ConvTranspose1d",
            "one position, ConvTranspose2d",
            "one position, ConvTranspose3d",
            "batch norm 1d",
            "batch norm 2d",
            "batch norm 3d",
            "batch norm 1d, classes on axis 1",
            "batch norm 2d, classes on axis 1",
            "batch norm 3d, classes on axis 1",
            "rnn, classes on axis 1",
            "rnn, flat",
            "lstm, flat",
            "lstm of three steps, flat",
            "embedding 3-5, flat",
            "embedding 3-2, flat",
        ),
    },
}
REFUSED = {
    f"{suite}: {name}".removeprefix(": "): sentence
    for sentence, suites in BY_SENTENCE.items()
    for suite, names in suites.items()
    for name in names
}
#: Of a suite's networks every so many are run; the page has all of them.
SOME = [name for name, x in PUBLISHED.items() if not x.slow][::6]
SOME += [name for name in REFUSED if name in PUBLISHED][::3]


@pytest.mark.parametrize("name", dict.fromkeys([*SMALL, *SOME]))
def test_an_export_is_right_or_refused(name):
    found = compare_export(case(name))
    if name in REFUSED:
        assert REFUSED[name] in found
        return
    assert isinstance(found, Exported)
    assert all(off <= bound for off, bound in found.pairs)
    assert max(bound for _, bound in found.pairs) < 2.0**-20  # float32 would show
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
    some = ["mlp, relu", "tied weights", "rnn", "curvlinops: mlp 8-5-3", "dense"]
    assert main(some) is False
    shown = capsys.readouterr().out
    assert "covers all 83 parameters (3 modules)" in shown
    assert "| tied weights | refused [" in shown
    assert "module 'body' (RNN)" in shown
    assert "| curvlinops: mlp 8-5-3 | squares | [" in shown
    assert "| dense | covers 40 of 45 parameters" in shown
    assert "5 networks: 4 right, 1 refused, 0 wrong" in shown


def test_the_page_that_is_kept_has_every_network():
    page = pathlib.Path(__file__).with_name("exports.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name in [*SMALL, *PUBLISHED, *NETWORKS]:
        own = f"| {name.partition(': ')[2] or name} | "
        found = [x.startswith(f"{own}refused [") for x in rows if x.startswith(own)]
        assert found
        assert name in NETWORKS or (name in REFUSED) in found
    assert " 0 wrong." in page
    assert "WRONG" not in page
