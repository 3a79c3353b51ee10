"""Every bad call of `refspec.export` and `refspec.datasets`: refused in a sentence."""

import dataclasses
import functools
import json
import tempfile

import array_api_strict
import numpy as np
import pytest

from refspec import classes, datasets, export
from refspec.classes import Layer, ModelSection
from refspec.export import containers
from support.clear import assert_clear

NAN, INF = float("nan"), float("inf")
N, C = 6, 3


@functools.cache
def case():
    """Return a folder, a snapshot, its logits, and the manifest and arrays it gives."""
    folder = tempfile.TemporaryDirectory()
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, C))
    layers = [Layer("fc", rng.normal(size=(N, 1, 4)), rng.normal(size=(N, C, 1, 5)))]
    steps = [{"op": "linear", "name": "fc", "weight": "w", "bias": None}]
    model = ModelSection(rng.normal(size=(N, 4)), steps, {"w": rng.normal(size=(3, 4))})
    s = classes.snapshot(layers, [0, 0, 1, 1, 2, 2], logits=z, model=model)
    path = export.save(s, f"{folder.name}/good.npz")
    return folder, s, z, path, *containers.read(path)


FOLDER, S, Z, GOOD, MANIFEST, ARRAYS = case()
NEW = f"{FOLDER.name}/new.npz"


def with_(x, value):
    x = np.array(x, dtype=np.result_type(x, value))
    x.flat[0] = value
    return x


def manifest(**changes):
    return lambda: export.assemble({**MANIFEST, **changes}, ARRAYS)


def array(key, change):
    x = change(ARRAYS[key]) if callable(change) else change
    rest = {k: v for k, v in MANIFEST.items() if k != "digest"}
    return lambda: export.assemble(rest, {**ARRAYS, key: x})


def without(key):
    rest = {k: v for k, v in ARRAYS.items() if k != key}
    return lambda: export.assemble(MANIFEST, rest)


def file(data):
    """Load a file of these bytes."""

    def call():
        path = f"{FOLDER.name}/bad.npz"
        with open(path, "wb") as handle:
            handle.write(data)
        return export.load(path)

    return call


def stated(text):
    """Load an archive whose manifest is this text."""

    def call():
        path = f"{FOLDER.name}/bad.npz"
        np.savez(path, manifest=np.array(text), **ARRAYS)
        return export.load(path)

    return call


def saved(**changes):
    provenance = changes.pop("provenance", None)
    s = S if provenance is None else dataclasses.replace(S, provenance=provenance)
    return lambda: export.save(s, **({"path": NEW} | changes))


F, E, P, W = "layers/0/features", "layers/0/errors", "probabilities", "sample_weights"
CALLS = [
    # what is saved, and where
    ("save: an array", lambda: export.save(ARRAYS[F], NEW), "snapshot"),
    ("save: a dict", lambda: export.save(ARRAYS, NEW), "snapshot"),
    ("save: none", lambda: export.save(None, NEW), "snapshot"),
    ("save: path 7", saved(path=7), "path"),
    ("save: path None", saved(path=None), "path"),
    ("save: path bytes", saved(path=b"x.npz"), "path"),
    ("save: path empty", saved(path=""), "name"),
    ("save: another ending", saved(path="x.pt"), "x.pt"),
    ("save: a null", saved(path="a\0.npz"), "name"),
    ("save: no folder", saved(path=f"{FOLDER.name}/no/x.npz"), "folder"),
    ("save: long name", saved(path=f"{FOLDER.name}/{'x' * 300}.npz"), "x" * 300),
    ("save: logits a list", saved(logits=Z.tolist()), "logits"),
    ("save: logits a number", saved(logits=1.0), "logits"),
    ("save: logits int", saved(logits=Z.astype(int)), "logits"),
    ("save: logits complex", saved(logits=Z + 0j), "logits"),
    ("save: logits nan", saved(logits=with_(Z, NAN)), "logits"),
    ("save: logits inf", saved(logits=with_(Z, INF)), "logits"),
    ("save: logits float16", saved(logits=Z.astype("f2")), "logits"),
    ("save: logits text", saved(logits=Z.astype(str)), "logits"),
    ("save: logits flat", saved(logits=Z.ravel()), "logits"),
    ("save: logits of others", saved(logits=Z[::-1].copy()), "logits"),
    ("save: dtype float16", saved(dtype="float16"), "dtype"),
    ("save: dtype a type", saved(dtype=np.float32), "dtype"),
    ("save: dtype a list", saved(dtype=["float32"]), "dtype"),
    ("save: compress 9", saved(compress=9), "compress"),
    ("save: compress word", saved(compress="no"), "compress"),
    ("save: recomputed word", saved(recomputed="yes"), "recomputed"),
    ("save: recomputed by another", saved(recomputed=True), "model section"),
    ("save: provenance a set", saved(provenance={"x": {1}}), "manifest"),
    ("save: provenance nan", saved(provenance={"x": NAN}), "manifest"),
    ("save: provenance array", saved(provenance={"x": Z}), "manifest"),
    ("save: class names", saved(provenance={"class_names": ["a"]}), "class_names"),
    # what is loaded
    ("load: nothing there", lambda: export.load(f"{FOLDER.name}/no.npz"), "no.npz"),
    ("load: no store", lambda: export.load(f"{FOLDER.name}/no.zarr"), "no.zarr"),
    ("load: a folder", lambda: export.load(FOLDER.name), FOLDER.name),
    ("load: path 7", lambda: export.load(7), "path"),
    ("load: path None", lambda: export.load(None), "path"),
    ("load: a snapshot", lambda: export.load(S), "path"),
    ("load: dtype", lambda: export.load(GOOD, dtype="int8"), "dtype"),
    ("load: dtype None", lambda: export.load(GOOD, dtype=None), "dtype"),
    ("load: xp a word", lambda: export.load(GOOD, xp="torch"), "xp"),
    ("load: xp a number", lambda: export.load(GOOD, xp=1), "xp"),
    ("load: no bytes", lambda: export.load(GOOD, max_bytes=0), "max_bytes"),
    ("load: few bytes", lambda: export.load(GOOD, max_bytes=99), "memory"),
    ("load: -1 bytes", lambda: export.load(GOOD, max_bytes=-1), "max_bytes"),
    ("load: 1e9 bytes", lambda: export.load(GOOD, max_bytes=1e9), "max_bytes"),
    ("load: True bytes", lambda: export.load(GOOD, max_bytes=True), "max_bytes"),
    ("load: '4 GB'", lambda: export.load(GOOD, max_bytes="4 GB"), "max_bytes"),
    ("load: empty file", file(b""), "bad.npz"),
    ("load: text", file(b"hello"), "bad.npz"),
    ("load: half a zip", file(GOOD.read_bytes()[:-30]), "bad.npz"),
    ("load: an end only", file(b"PK\x05\x06" + b"\xff" * 18), "bad.npz"),
    ("load: no JSON", stated("{"), "manifest"),
    ("load: a list", stated("[1]"), "manifest"),
    ("load: brackets", stated("[" * 1000 + "]" * 1000), "manifest"),
    ("load: NaN", stated('{"x": NaN}'), "manifest"),
    ("load: digits", stated("1" * 10**4), "manifest"),
    ("load: no digest", stated(json.dumps({**MANIFEST, "digest": None})), "digest"),
    ("load: old digest", stated(json.dumps({**MANIFEST, "digest": "ab"})), "digest"),
    (
        "load: renamed",
        stated(json.dumps({**MANIFEST, "layers": ["x"]})),
        ("digest", "biases"),
    ),
    ("digest: path 7", lambda: export.digest(7), "path"),
    ("digest: no file", lambda: export.digest("no.npz"), "no.npz"),
    ("digest: bytes", lambda: export.digest(GOOD, max_bytes=2.5), "max_bytes"),
    # what is assembled
    ("assemble: no manifest", lambda: export.assemble(None, ARRAYS), "manifest"),
    ("assemble: text", lambda: export.assemble("{}", ARRAYS), "manifest"),
    ("assemble: no arrays", lambda: export.assemble(MANIFEST, None), "arrays"),
    ("assemble: a list", lambda: export.assemble(MANIFEST, [1]), "arrays"),
    ("assemble: key 1", lambda: export.assemble(MANIFEST, {**ARRAYS, 1: Z}), "key"),
    ("assemble: xp", lambda: export.assemble(MANIFEST, ARRAYS, xp=np.zeros(1)), "xp"),
    (
        "assemble: dtype",
        lambda: export.assemble(MANIFEST, ARRAYS, dtype="f8"),
        "dtype",
    ),
    ("assemble: a list in", array("labels", [0, 0, 1, 1, 2, 2]), "labels"),
    ("assemble: strict", array(F, array_api_strict.ones((6, 1, 4))), F),
    ("assemble: schema", manifest(schema="refspec.export/9"), "schema"),
    ("assemble: schema list", manifest(schema=["x"]), "schema"),
    ("assemble: no layers", manifest(layers=[]), "layers"),
    ("assemble: a layer 1", manifest(layers=[1]), "layers"),
    ("assemble: a word", manifest(layers="fc"), "layers"),
    ("assemble: two layers", manifest(layers=["fc", "x"]), "layers/1"),
    ("assemble: twice", manifest(layers=["fc", "fc"]), "layer"),
    ("assemble: operations", manifest(operations="linear"), "operations"),
    ("assemble: weight list", manifest(operations=[{"weight": ["w"]}]), "operations"),
    ("assemble: weight /", manifest(operations=[{"weight": "a/b"}]), "a/b"),
    ("assemble: no weight", manifest(operations=[{"weight": "v"}]), "v"),
    ("assemble: class names", manifest(class_names="abc"), "class_names"),
    ("assemble: digest", manifest(digest={"value": 1}), "digest"),
    *((f"assemble: without {k}", without(k), k) for k in ("labels", F, E)),
    ("assemble: without both", without(P), P),
    ("assemble: both", array("logits", Z), "logits"),
    ("assemble: unknown", array("extra", Z), "extra"),
    ("assemble: labels 0.5", array("labels", lambda x: x + 0.5), "labels"),
    ("assemble: labels -1", array("labels", lambda x: x - 1), "labels"),
    ("assemble: labels high", array("labels", lambda x: x + 1), "labels"),
    ("assemble: labels (N, 1)", array("labels", lambda x: x[:, None]), "labels"),
    ("assemble: float16", array(F, lambda x: x.astype("f2")), F),
    ("assemble: complex", array(E, lambda x: x + 0j), E),
    ("assemble: text in", array(E, lambda x: x.astype(str)), E),
    ("assemble: objects", array(E, lambda x: x.astype(object)), E),
    ("assemble: nan", array(F, lambda x: with_(x, NAN)), F),
    ("assemble: inf", array(E, lambda x: with_(x, INF)), E),
    ("assemble: a = 0", array(F, lambda x: x[..., :0]), F),
    ("assemble: N = 0", array("labels", lambda x: x[:0]), "labels"),
    ("assemble: p < 0", array(P, np.array([[1.5, -0.5, 0]] * N)), P),
    ("assemble: sum 2", array(P, lambda x: 2 * x), P),
    ("assemble: sum inf", array(P, np.full((N, C), 1e308)), P),
    ("assemble: weights", array(W, lambda x: 9 * x), W),
    ("assemble: weights < 0", array(W, lambda x: with_(x, -1.0)), W),
    ("assemble: inputs", array("model/inputs", np.ones((2, 4))), "model/inputs"),
    ("assemble: w nan", array("model/parameters/w", np.array(NAN)), "parameters/w"),
    # the embedded ones
    ("datasets: xp", lambda: datasets.digits_mlp(xp="numpy"), "xp"),
]


@pytest.mark.parametrize(
    ("call", "names"), [x[1:] for x in CALLS], ids=[x[0] for x in CALLS]
)
def test_a_bad_call_is_refused_in_a_sentence(call, names):
    assert_clear(call, names=names)
