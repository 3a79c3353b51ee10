"""Networks of published suites by differentiation; the page that keeps them all."""

import pathlib

import pytest

from frameworks import comparisons, large_table
from frameworks.comparisons import (
    Differentiated,
    case,
    compare_moment,
    of_another_loss,
)
from frameworks.moments_table import main
from support.building_networks import CROSS
from support.jax_networks import NETWORKS
from support.published_networks import PUBLISHED
from support.torch_networks import SMALL, published

pytestmark = pytest.mark.filterwarnings("ignore")

REFUSED = {
    "curvlinops: unet, flat": "must give logits of shape",
    "curvlinops: a bias after a new shape": "must tell classes from positions",
    "backpack: axes moved": "must tell classes from positions",
    "nngeometry: softmax at the end": "take the softmax off",
}
#: Of a suite's networks every so many are run; the page has all of them.
SOME = [name for name, x in PUBLISHED.items() if not x.slow][3::8]


@pytest.mark.parametrize("name", dict.fromkeys([*SOME, *REFUSED]))
def test_a_moment_is_right_or_refused(name):
    found = compare_moment(case(name))
    if name in REFUSED:
        assert REFUSED[name] in found
        return
    assert isinstance(found, Differentiated)
    assert len(found.pairs) == 2
    assert all(off <= bound < 2.0**-20 for off, bound in found.pairs)


def test_a_hessian_of_other_labels_is_seen(monkeypatch):
    """The comparison can fail."""
    products = comparisons.hessian_products
    monkeypatch.setattr(
        comparisons,
        "hessian_products",
        lambda model, inputs, labels, *rest, **how: products(
            model, inputs, (labels + 1) % 5, *rest, **how
        ),
    )
    found = compare_moment(case("vivit: mlp 7-6-5"))
    assert found.fisher[0] <= found.fisher[1]
    assert not found.hessian[0] <= found.hessian[1]


@pytest.mark.slow
def test_a_large_network_in_directions(capsys):
    assert large_table.main(["vit"]) is False
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[:2] == ["| vit", "34,083"]
    bounds = [x.strip(" |").split(" / ")[1] for x in row[2:]]
    assert all(float(x) < 2.0**-20 for x in bounds)


OTHERS = [name for name, x in PUBLISHED.items() if x.loss != CROSS]


@pytest.mark.parametrize("name", OTHERS[::9])
def test_targets_of_another_loss_are_refused(name):
    for said in of_another_loss(name):
        assert said is not None


def test_the_page_is_written(capsys):
    some = ["mlp, relu", "embedding bag", "nngeometry: softmax at the end", "dense"]
    assert main([*some, "vivit: mlp, sigmoid"]) is False
    shown = capsys.readouterr().out
    assert "| mlp, relu | 83 | " in shown
    assert "| softmax at the end | refused [" in shown
    assert "| vivit: mlp, sigmoid | squares | [" in shown
    assert "| batch statistics in evaluation | refused [" in shown
    assert "15 networks: 4 right, 11 refused, 0 wrong" in shown


def test_the_page_that_is_kept_has_every_network():
    page = pathlib.Path(__file__).with_name("moments.md").read_text()
    for name in [*SMALL, *PUBLISHED, *NETWORKS]:
        assert f"\n| {name.partition(': ')[2] or name} | " in page
    assert " 0 wrong." in page
    assert "WRONG" not in page


def test_the_page_of_large_ones_has_them():
    lines = pathlib.Path(__file__).with_name("large.md").read_text().splitlines()
    for name in published():
        (row,) = [x for x in lines if x.startswith(f"| {name} | ")]
        for pair in row.strip(" |").split(" | ")[2:]:
            off, bound = map(float, pair.split(" / "))
            assert off <= bound < 2.0**-20
