"""Parts of an export on the command line: the same numbers, within their radii."""

import json

import numpy as np
import pytest

from refspec import export
from support.command import run
from support.snapshots import typical


@pytest.fixture
def store(tmp_path):
    return export.save(typical(counts=(6, 5, 4)), tmp_path / "run.zarr")


def said(tmp_path, *words):
    out = tmp_path / "out.json"
    found = run(*words, "--json", out)
    assert found.exit_code == 0, found.output
    return json.loads(out.read_text())


@pytest.mark.parametrize("command", ["attribute", "spectrum"])
@pytest.mark.parametrize("options", [(), ("--layer", "fc2"), ("--top", 2)])
def test_parts_have_the_spectrum_of_the_whole(store, tmp_path, command, options):
    whole = said(tmp_path, command, store, *options)
    kept = ("--shards", 3, "--journal", tmp_path / "journal")
    parts = said(tmp_path, command, store, *options, *kept)
    gap = np.abs(np.asarray(whole["values"]) - parts["values"]).max()
    assert gap <= whole["radius"] + parts["radius"]
    for key in ("kinds", "title", "coverage"):
        assert whole.get(key) == parts.get(key)
    if "--top" in options:
        assert list((tmp_path / "journal").glob("*.npy"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shards", 2), "need a .zarr export, got none"),
        (("STORE", "--shards", 16), "count must lie in 1..N = 1..15"),
        (("STORE", "--shards", 2, "--of", "errors"), "got --of errors"),
        (("STORE", "--shards", 2, "--layer", "no"), "--layer must be one of fc1, fc2"),
        (("STORE", "--shards", 2, "--backend", "torch"), "--backend torch"),
        (("STORE", "--journal", "x"), "--journal goes with --shards"),
        (("STORE", "--workers", 2, "--scheduler", "tcp://a:1"), "got both"),
        (("nothing.zarr", "--shards", 2), "no such file"),
    ],
)
def test_what_cannot_be_in_parts_is_refused(store, words, message):
    words = [store if x == "STORE" else x for x in words]
    found = run("spectrum", *words)
    assert found.exit_code != 0
    assert message in " ".join(found.output.split())
