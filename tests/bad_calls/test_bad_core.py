"""The core, its pictures and its pages: every public function has a door."""

from dataclasses import replace

import array_api_strict
import numpy as np
import pytest

from refspec import (
    Bounded,
    ClassArray,
    Layer,
    ModelSection,
    Snapshot,
    claims,
    curvature,
    datasets,
    plan,
    plots,
    report,
    selftest,
    snapshot,
    verify,
)
from refspec.attribution import (
    attribute,
    attribute_hessian,
    class_means,
    depth_profile,
    distances,
    eigenbasis,
    knockout,
    sines,
    span_angles,
)
from refspec.coordinates import coordinates
from refspec.plots import matrices
from refspec.plots.margins import verdicts
from refspec.plots.means import distance_matrix
from refspec.plots.prediction import predictions
from refspec.spectra import spectrum
from refspec.structure import decompose, plain_means
from support.clear import assert_clear

rng = np.random.default_rng(0)
H, E = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 2, 2))
LAYER, HALF = Layer("fc", H, E), np.full((4, 2), 0.5)
S = snapshot([LAYER, Layer("out", H, E)], [0, 0, 1, 1], probabilities=HALF)
G = curvature.fisher(S)
P = G.shape[1]
AT, BASIS = coordinates(G), eigenbasis(G)
FOUND, MEANS = attribute(G), class_means(G)
HESSIAN = attribute_hessian(G.matrix(), G)
D, POINTS = distances(MEANS)
CLARITY = {"features": depth_profile(S)}
VALUES, ONE, NAN = np.ones((3, 1, 2)), np.ones((3, 1)), float("nan")


def layer(h=H, e=E, name="fc"):
    return Layer(name, h, e)


def bad(x, *places):
    """The array with nan in it."""
    x = np.array(x, dtype=float)
    x[places or (0,) * x.ndim] = NAN
    return x


def made(layers=(LAYER,), labels=(0, 0, 1, 1), **options):
    options = options or {"probabilities": HALF}
    return snapshot(list(layers), list(labels), **options)


def built(**changes):
    fields = {
        "layers": (LAYER,),
        "probabilities": HALF,
        "labels": np.asarray([0, 0, 1, 1]),
        "sample_weights": np.full(4, 0.25),
    } | changes
    return Snapshot(**fields)


def classes(values=VALUES, weights=ONE, labels=(0, 0, 1)):
    return ClassArray(values, weights, list(labels))


def model(**changes):
    fields = {"inputs": np.ones((4, 2)), "operations": [], "parameters": {}} | changes
    return ModelSection(**fields)


def moment(**changes):
    return replace(G, **changes)


def alone(x):
    """Project on a direction that no level knows."""
    return x * (np.arange(4) == 0)[:, None, None]


NO_ARRAY = {"list": [[1.0]], "none": None, "text": "x", "number": 1.0}
WRONG = {
    "nan": bad,
    "infinite": lambda x: x / 0.0 * np.sign(x),
    "complex": lambda x: x + 0j,
    "half": lambda x: x.astype(np.float16),
    "whole": lambda x: x.astype(np.int64),
    "true": lambda x: x > 0,
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "vector": lambda x: x.ravel(),
    "single": lambda x: x.astype(np.float32),
    "strict": lambda x: array_api_strict.asarray(x),
}


def wrong(x, but=()):
    """Return arrays like x that are not as it should be."""
    with np.errstate(all="ignore"):
        kinds = [(k, f(x)) for k, f in WRONG.items() if k not in but]
    return kinds + list(NO_ARRAY.items())


def each(function, *others, what=("snapshot", "moment", "Snapshot"), also=()):
    """Call a function of a moment or snapshot with what is neither."""
    things = [None, 3, "mine.npz", np.eye(3), LAYER, [S], *also]
    return [(lambda x=x: function(x, *others), what) for x in things]


TABLE = [
    *((lambda x=x: layer(h=x), ("features", "namespace")) for _, x in wrong(H)),
    *(
        (lambda x=x: layer(e=x), ("errors", "features", "namespace"))
        for _, x in wrong(E)
    ),
    (lambda: layer(h=H[:3]), "errors"),
    (lambda: layer(h=H[:, :1]), "errors"),
    (lambda: layer(h=H[:0], e=E[:0]), "fc"),
    (lambda: layer(h=H[:, :0], e=E[:, :, :0]), "fc"),
    (lambda: layer(h=H[:, :, :0]), "fc"),
    (lambda: layer(e=E[..., :0]), "fc"),
    (lambda: layer(e=E[:, :0]), "fc"),
    (lambda: layer(name=3), "name"),
    (lambda: layer(name=None), "name"),
    *(
        (lambda x=x: made(probabilities=x), ("probabilities", "namespace"))
        for _, x in wrong(HALF)
    ),
    *(
        (lambda x=x: made(logits=x), ("logits", "beside", "namespace"))
        for _, x in wrong(H[:, :, 0])
    ),
    (lambda: made(probabilities=HALF[:3]), ("labels", "probabilities", "layer")),
    (lambda: made(probabilities=2 * HALF), "probabilities"),
    (lambda: made(probabilities=np.asarray([[-1.0, 2.0]] * 4)), "probabilities"),
    (lambda: made(probabilities=HALF[:, :1] * 2), "probabilities"),
    (lambda: made(probabilities=HALF, logits=HALF), "logits"),
    (lambda: made(sample_weights=np.full(4, 0.25)), "logits"),
    *(
        (lambda x=x: made(probabilities=HALF, sample_weights=x), "sample_weights")
        for _, x in [
            *wrong(np.full(4, 0.25))[:8],
            ("two", np.full((2, 2), 0.25)),
            ("text", "x"),
            ("list", [0.25] * 4),
            ("sum", np.ones(4)),
            ("few", np.full(3, 1 / 3)),
            ("negative", np.asarray([-1.0, 1, 1, 0])),
        ]
    ),
    *(
        (lambda x=x: snapshot([LAYER], x, probabilities=HALF), ("labels", "class"))
        for x in (
            None,
            "0011",
            3,
            [0, 0, 1],
            [0, 0, 1, 2],
            [0, 0, 1, -1],
            [0.0, 0.0, 1.0, 1.0],
            ["0", "0", "1", "1"],
            [[0, 0], [1, 1]],
            [0, 0, 1, None],
            [0, 0, [1], 1],
            [True, True, False, False],
        )
    ),
    *(
        (lambda x=x: snapshot(x, [0, 0, 1, 1], probabilities=HALF), "layer")
        for x in (None, LAYER, [], "fc", [None], [H], 3, [S], {"fc": LAYER})
    ),
    (lambda: made([LAYER, LAYER]), "layer"),
    (lambda: made([LAYER, layer(H[:3], E[:3], "b")]), "layer"),
    (lambda: made([layer(e=np.ones((4, 3, 2, 2)))]), "errors"),
    (lambda: made(probabilities=HALF, provenance="torch"), "provenance"),
    (lambda: made(probabilities=HALF, provenance=[1, 2]), "provenance"),
    (lambda: made(probabilities=HALF, model="mlp"), "model"),
    (lambda: made(probabilities=HALF, model=model(inputs=H[:3])), "model"),
    (lambda: built(layers=()), "layers"),
    (lambda: built(layers=[None]), "layer"),
    (lambda: built(layers=LAYER), "layer"),
    (lambda: built(layers=(LAYER, LAYER)), "layer"),
    (lambda: built(labels=[1, 1, 0, 0]), "labels"),
    (lambda: built(labels=None), "labels"),
    (lambda: built(probabilities=None), "probabilities"),
    (lambda: built(sample_weights=None), ("probabilities", "sample_weights")),
    (lambda: built(sample_weights=np.ones(4)), "sample_weights"),
    (lambda: built(provenance=3), "provenance"),
    (lambda: built(model={}), "model"),
    (lambda: S.layer("conv"), "layer"),
    (lambda: S.layer(0), "layer"),
    (lambda: S.layer(None), "layer"),
    *(
        (lambda x=x: classes(values=x), ("values", "namespace"))
        for _, x in wrong(np.ones((3, 1, 2)))
    ),
    *((lambda x=x: classes(weights=x), ("weights", "values")) for _, x in wrong(H)[:9]),
    (lambda: classes(weights=-np.ones((3, 1))), "weights"),
    (lambda: classes(weights=bad(np.ones((3, 1)))), "weights"),
    (lambda: classes(labels=[0, 1, 0]), "labels"),
    (lambda: classes(labels="abc"), "labels"),
    (lambda: classes(values=np.ones((3, 3, 2)), weights=np.ones((3, 3))), "values"),
    (lambda: model(inputs=None), "inputs"),
    (lambda: model(inputs=[[1.0]]), "inputs"),
    (lambda: model(inputs=bad(H)), "inputs"),
    (lambda: model(operations=None), "operations"),
    (lambda: model(operations=3), "operations"),
    (lambda: model(operations=[3]), "operation"),
    (lambda: model(operations=["linear"]), "operation"),
    (lambda: model(operations=[{"op": "linear", "weight": "w"}]), "operation"),
    (lambda: model(parameters=None), "parameters"),
    (lambda: model(parameters={"w": None}), "parameter"),
    (lambda: model(parameters={"w": bad(H)}), "parameter"),
    (lambda: Bounded(1.0, -1.0), "radius"),
    (lambda: Bounded(1.0, NAN), "radius"),
    *each(curvature.fisher),
    *each(curvature.empirical_fisher),
    *each(curvature.features, "fc"),
    *each(curvature.errors, "fc"),
    *(
        (lambda f=f, x=x: f(S, x), "layer")
        for f in (curvature.fisher, curvature.empirical_fisher)
        for x in ([], "fc", 3, [3], ["conv"], ["fc", "fc"], [None], [LAYER])
    ),
    *(
        (lambda f=f, x=x: f(S, x), "layer")
        for f in (curvature.features, curvature.errors)
        for x in ("conv", None, 0, ["fc"], LAYER)
    ),
    *each(decompose),
    *each(plain_means),
    *each(coordinates, also=[FOUND]),
    *each(spectrum, also=[FOUND, BASIS]),
    *each(eigenbasis, also=[FOUND, BASIS]),
    *each(attribute, also=[FOUND]),
    *((lambda x=x: plan(x), "subject") for x in (None, 3, np.eye(3), LAYER)),
    (lambda: plan(S, what="everything"), "what"),
    (lambda: plan(S, memory_limit=0), "memory_limit"),
    (lambda: plan(S, top=0), "top"),
    (lambda: plan(S, leave_out=1), "leave_out"),
    (lambda: plan(S, leave_out=0.5, top=3), "leave_out"),
    (lambda: plan(S, leave_out=0.5, what="report"), "leave_out"),
    *(
        (lambda f=f, x=x: f(S, **x), "leave_out")
        for f in (attribute, spectrum)
        for x in (
            {"leave_out": -1e-6},
            {"leave_out": 1.0},
            {"leave_out": float("nan")},
            {"leave_out": "1e-6"},
            {"leave_out": 1e-6, "top": 3},
        )
    ),
    (lambda: plan(S, layers=["no"]), "layers"),
    *each(class_means, also=[FOUND]),
    *each(depth_profile, also=[G], what="snapshot must"),
    (lambda: decompose(moment(projection=alone)), "projection"),
    (lambda: attribute(moment(projection=alone)), "projection"),
    (lambda: decompose(moment(projection=3)), "projection"),
    (lambda: moment(weights=-G.weights), "weights"),
    (lambda: moment(weights=bad(G.weights)), "weights"),
    (lambda: moment(weights=G.weights[:2]), "weights"),
    (lambda: moment(weights=None), "weights"),
    (lambda: moment(weights=np.ones((4, 3))), "weights"),
    (lambda: moment(weights=np.float32(G.weights)), ("weights", "namespace")),
    (lambda: moment(weights=array_api_strict.asarray(G.weights)), "namespace"),
    (lambda: moment(offsets=(0, 2)), "offsets"),
    (lambda: moment(offsets=(0, 3, 2, 4)), "offsets"),
    (lambda: moment(offsets=None), "offsets"),
    (lambda: moment(rows=np.eye(3)), "rows"),
    (lambda: spectrum(G, vectors="yes"), "vectors"),
    (lambda: spectrum(G, certify="yes"), "certify"),
    (lambda: coordinates(G, certify=1), "certify"),
    (lambda: eigenbasis(G, certify=2), "certify"),
    (lambda: attribute(G, certify=None), "certify"),
    *(
        (lambda x=x: G.dot(x), ("V", "namespace"))
        for _, x in wrong(np.ones((P, 2)), ["single"])
    ),
    *(
        (lambda x=x: G.cross(x), ("Z", "namespace"))
        for _, x in wrong(np.ones((4, 2, 1)), ["single"])
    ),
    *((lambda x=x: G.matvec(x), "v") for _, x in wrong(np.ones((P, 1)))[:8]),
    (lambda: G.matvec(None), "v"),
    (lambda: G.dot(np.ones((P + 1, 2))), "V"),
    (lambda: G.cross(np.ones((4, 3, 1))), "Z must have shape (N, K, m)"),
    (lambda: G.matvec(np.ones(P + 1)), "v"),
    (lambda: G.matvec(np.ones((P, 1, 1))), "v"),
    (lambda: G.matvec(np.float64(1)), "v"),
    (lambda: knockout(G, ["diagonal"]), "basis"),
    (lambda: knockout(BASIS, "diagonal"), "levels"),
    (lambda: knockout(BASIS, ["class"]), "levels"),
    (lambda: knockout(BASIS, ["diagonal", "diagonal"]), "levels"),
    (lambda: knockout(BASIS, None), "levels"),
    (lambda: knockout(BASIS, [3]), "levels"),
    (lambda: knockout(BASIS, ["diagonal"], by="force"), "by"),
    (lambda: knockout(BASIS, ["diagonal"], by=None), "by"),
    (
        lambda: knockout(BASIS, ["within_cross_class"], by="projection"),
        "within_cross_class",
    ),
    *(
        (lambda f=f, x=x: f(x, ["diagonal"]), "basis")
        for f in (sines, span_angles)
        for x in (None, G, FOUND)
    ),
    *(
        (lambda f=f, x=x: f(BASIS, x), "levels")
        for f in (sines, span_angles)
        for x in ("diagonal", None, [3], ["within_cross_class"], ["diagonal"] * 2)
    ),
    *(
        (lambda x=x: span_angles(BASIS, ["diagonal"], x), "k")
        for x in (-1, 1.5, "1", True)
    ),
    *(
        (lambda x=x: attribute_hessian(x, G), ("hessian", "namespace"))
        for _, x in wrong(np.eye(P))
    ),
    (lambda: attribute_hessian(np.eye(P + 1), G), "hessian"),
    (lambda: attribute_hessian(np.triu(np.ones((P, P))), G), "hessian"),
    (lambda: attribute_hessian(np.eye(P), S), "moment"),
    (lambda: attribute_hessian(np.eye(P), None), "moment"),
    (lambda: attribute_hessian(np.eye(6), curvature.features(S, "fc")), "K"),
    (lambda: attribute_hessian(np.eye(P), G, forming=-1.0), "forming"),
    (lambda: attribute_hessian(np.eye(P), G, forming=NAN), "forming"),
    (lambda: attribute_hessian(np.eye(P), G, forming="0"), "forming"),
    (lambda: depth_profile(S, "gradients"), "of must"),
    (lambda: depth_profile(S, None), "of must"),
    (lambda: distances(G), "means"),
    (lambda: distances(None), "means"),
    *(
        (lambda x=x: distances(MEANS, x), "classes")
        for x in ([], [2], [-1], [0, 0], [0.5], ["0"], 3, "01", [None], [[0]])
    ),
    *(
        (lambda x=x: plots.means_map(x, POINTS), "matrix")
        for x in (
            None,
            "x",
            3.0,
            np.ones(3),
            np.ones((2, 3)),
            bad(np.zeros((2, 2))),
            np.triu(np.ones((3, 3)), 1),
            -np.ones((2, 2)),
            1j * np.ones((2, 2)),
            [["a"]],
        )
    ),
    *(
        (lambda f=f, x=x: f(x), ("result", "Attribution"))
        for f in (
            plots.scree,
            plots.sandwich,
            plots.shares,
            plots.spectrum,
            plots.knockouts,
            plots.attribution,
        )
        for x in (None, G, S, "x")
    ),
    *(
        (lambda f=f, x=x: f(FOUND, top=x), "top")
        for f in (plots.scree, plots.sandwich, plots.shares)
        for x in (-1, 0, 2.9, "3", True, NAN)
    ),
    *(
        (lambda x=x: plots.spectrum(FOUND, bins=x), "bins")
        for x in (-1, 0, 2.9, "3", None)
    ),
    *(
        (lambda f=f: f(FOUND, "ax"), "ax")
        for f in (plots.scree, plots.sandwich, plots.shares, plots.spectrum)
    ),
    (lambda: plots.knockout(FOUND, "class"), "level"),
    (lambda: plots.knockout(FOUND, None), "level"),
    (lambda: plots.knockout(None, "diagonal"), "result"),
    (lambda: plots.hessian(FOUND), "result"),
    (lambda: plots.hessian(HESSIAN, bins=-1), "bins"),
    (lambda: plots.hessian_parts(FOUND), "result"),
    (lambda: plots.hessian_parts(HESSIAN, top=-1), "top"),
    (lambda: plots.hessian_parts(HESSIAN, top=2.9), "top"),
    (lambda: matrices.hessian_attribution(None), "result"),
    (lambda: plots.approximations(FOUND), "result"),
    (lambda: matrices.comparisons(FOUND), "results"),
    (lambda: matrices.comparisons({}), "results"),
    (lambda: verdicts(None), "results"),
    (lambda: verdicts({}), "results"),
    (lambda: verdicts({"L1": FOUND}), "results"),
    (lambda: plots.depth(None), "profiles"),
    (lambda: plots.depth({}), "profiles"),
    (lambda: plots.depth({"features": {}}), "profiles"),
    (lambda: plots.depth(CLARITY, "size"), "quantity"),
    (lambda: plots.depth(CLARITY, None), "quantity"),
    (lambda: plots.means_map(None, POINTS), "matrix"),
    (lambda: plots.means_map(D[:2], POINTS), "matrix"),
    (lambda: plots.means_map(bad(D), POINTS), "matrix"),
    (lambda: plots.means_map(D, POINTS[:2]), "points"),
    (lambda: plots.means_map(D, None), "points"),
    (lambda: plots.means_map(D, POINTS + 0.5), "points"),
    (lambda: plots.means_map(D, POINTS, method="pca"), "method"),
    (lambda: plots.means_map(D, POINTS, names="abc"), "names"),
    (lambda: plots.means_map(D, POINTS, names=[1, 2, 3]), "names"),
    (lambda: plots.means_map(D, POINTS, names=["one"]), "names"),
    (lambda: distance_matrix(None, POINTS), "matrix"),
    (lambda: distance_matrix(D, POINTS[:2]), "points"),
    (lambda: plots.prediction(None, None), "made"),
    (lambda: predictions(FOUND, FOUND), "made"),
    (lambda: plots.figure(0), "rows"),
    (lambda: plots.figure(1, -1), "columns"),
    (lambda: plots.figure(1.5), "rows"),
    (lambda: plots.figure(size=(0, 1)), "size"),
    (lambda: plots.figure(size=3), "size"),
    (lambda: plots.save(None, "x.png"), "drawn"),
    (lambda: plots.save(FOUND, "x.png"), "drawn"),
    (lambda: plots.style.inline_svg(None, "p"), "drawn"),
    *each(report.collect),
    (lambda: report.collect(S, dense=-1), "dense"),
    (lambda: report.collect(S, dense=2.9), "dense"),
    (lambda: report.collect(S, theorems=["L1"]), "theorems"),
    (lambda: report.collect(S, theorems=3), "theorems"),
    (lambda: report.collect(S, progress=3), "progress"),
    (lambda: report.collect(S, per_layer="no"), "per_layer"),
    (lambda: report.render(None), "contents"),
    (lambda: report.render(S), "contents"),
    *each(verify.verify, what="subject"),
    *each(claims.judge, what="network"),
    (lambda: claims.judge(curvature.features(S, LAYER.name)), "network"),
    (lambda: claims.judge(S, "FQ"), "claims"),
    (lambda: claims.judge(S, dense=-1), "dense"),
    (lambda: claims.judge(S, per_layer="no"), "per_layer"),
    *each(claims.bootstrap, what="network"),
    (lambda: claims.bootstrap(curvature.features(S, LAYER.name)), "network"),
    (lambda: claims.bootstrap(S, "FQ"), "claims"),
    (lambda: claims.bootstrap(S, draws=1), "draws"),
    (lambda: claims.bootstrap(S, draws=2.5), "draws"),
    (lambda: claims.bootstrap(S, confidence=0), "confidence"),
    (lambda: claims.bootstrap(S, seed=-1), "seed"),
    (lambda: claims.bootstrap(S, top=0), "top"),
    (lambda: verify.verify(curvature.features(S, LAYER.name)), "subject"),
    (lambda: verify.verify(S, theorems=["L1"]), "theorems"),
    (lambda: verify.verify(S, theorems=3), "theorems"),
    (lambda: verify.verify(S, theorems="L1"), "theorems"),
    (lambda: verify.verify(S, source=None), "source"),
    (lambda: verify.verify(S, deep="no"), "deep"),
    (lambda: selftest.worlds(-1), "seed"),
    (lambda: selftest.worlds(2.5), "seed"),
    (lambda: selftest.selftest(theorems=["L1"]), "theorems"),
    (lambda: selftest.selftest(deep="no"), "deep"),
    (lambda: selftest.selftest(seed=-1), "seed"),
    (lambda: datasets.load("cifar"), "name"),
    (lambda: datasets.load(None), "name"),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_bad_calls_are_refused_in_a_sentence(row):
    call, names = TABLE[row]
    assert_clear(call, names=names)
