"""Every network of the tests through `export`: right within a bound, or refused."""

import pytest

from frameworks.exports_table import compare, main
from refspec.classes import Snapshot
from support.torch_networks import SMALL

pytestmark = pytest.mark.filterwarnings("ignore")

REFUSED = {
    "tied weights": "shares a parameter",
    "weight used twice": "must make up the gradient",
    "a linear that computes something else": "must make up the gradient",
    "a hook that doubles": "must make up the gradient",
    **dict.fromkeys(
        ("weight norm, old", "weight norm", "spectral norm", "orthogonal", "pruned"),
        "makes its weight of other parameters",
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_an_export_is_right_or_refused(name):
    made, offs, bounds = compare(name)
    if name in REFUSED:
        assert REFUSED[name] in made
        return
    assert isinstance(made, Snapshot), made
    assert all(off <= bound for off, bound in zip(offs, bounds, strict=True))
    assert max(bounds) < 2.0**-24  # a rounding of float32 would show
    assert (made.model is None) == ("without_network" in made.provenance)


def test_the_page_is_written(capsys, monkeypatch):
    kept = {k: SMALL[k] for k in ("mlp, relu", "tied weights", "rnn")}
    monkeypatch.setattr("frameworks.exports_table.SMALL", kept)
    main()
    shown = capsys.readouterr().out
    assert "covers all 83 parameters (3 modules)" in shown
    assert "refused: an export must hold" in shown
    assert "no network: module 'body' (RNN)" in shown
