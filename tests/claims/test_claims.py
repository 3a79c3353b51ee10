"""Claims: thresholds say what they say, numbers are those of an independent script."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import refspec
from refspec import claims, costs, datasets, models, rounding
from refspec.claims import CLAIMS, VERDICTS, registry
from refspec.claims.__main__ import page, read
from refspec.synthetic import collapse
from support.command import run
from support.snapshots import sampled


def test_every_claim_states_what_it_measures():
    for id, claim in CLAIMS.items():
        assert claim.id == id
        for text in (claim.sentence, claim.source, claim.numbers, claim.threshold):
            assert len(text) > 10
        if "Papyan (2020)" in claim.source:
            assert "not from its text" in claim.source


def test_every_claim_has_a_verdict_on_every_network():
    for name in ("wine_sklearn", "mnist_cnn"):
        for found in claims.judge(getattr(datasets, name)()):
            assert found.verdict in VERDICTS
            assert found.evidence
            for x in found.evidence:
                assert x.reason
                assert bool(x.numbers) == (x.verdict != "cannot be judged")


def test_a_moment_is_judged_on_what_it_tells():
    """G, W and D of a Fisher information alone: as of the export; no others."""
    snapshot = datasets.wine_sklearn()
    every = {x.claim.id: x for x in claims.judge(snapshot, per_layer=False)}
    for found in claims.judge(refspec.fisher(snapshot)):
        if found.claim.layered:
            assert found.verdict == "cannot be judged"
        else:
            mine = every[found.claim.id].evidence
            assert [x.numbers for x in found.evidence] == [x.numbers for x in mine]
    with pytest.raises(ValueError, match="K = C cross classes, got a moment of K = 1"):
        claims.judge(refspec.features(snapshot, "coefs_0"))


def independent(snapshot):
    """The same numbers by plain formulas, the matrices formed."""
    s, p, y = snapshot.sample_weights, snapshot.probabilities, snapshot.labels
    N, C = p.shape
    rows = np.concatenate(
        [
            np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(N, C, -1)
            for x in snapshot.layers
        ],
        axis=2,
    )
    w = s[:, None] * p

    def second(v, weights):
        v = v.reshape(-1, v.shape[-1])
        return (v * weights.reshape(-1, 1)).T @ v

    whole = second(rows, w)
    means, mass = np.zeros((C, C, rows.shape[2])), np.zeros((C, C))
    for c in range(C):
        mass[c] = w[y == c].sum(0)
        means[c] = (w[y == c][:, :, None] * rows[y == c]).sum(0) / mass[c][:, None]
    off = mass * (1 - np.eye(C))
    own = (off[:, :, None] * means).sum(1) / off.sum(1)[:, None]
    diagonal = second(means[range(C), range(C)], mass[range(C), range(C)])
    between = second(own, off.sum(1))
    within = second(rows - means[y], w)
    return whole, diagonal, between, within


def test_counts_are_those_of_plain_formulas():
    """G: outliers and bump of wine, from matrices formed by the definitions."""
    snapshot = datasets.wine_sklearn()
    whole, diagonal, between, within = independent(snapshot)
    values = np.linalg.eigvalsh(whole)[::-1]
    found = claims.edges(snapshot)
    edges = [np.linalg.eigvalsh(x)[-1] for x in (whole - diagonal - between, within)]
    radius = found.attribution.radius
    for edge, seen in zip(edges, (found.class_edge, found.within_edge), strict=True):
        assert abs(edge - seen) <= 2 * radius
    counts = [int(np.sum(values > edge)) for edge in edges]
    assert found.above_class == (counts[0],) * 2
    assert found.above_within == (counts[1],) * 2
    assert counts[0] != counts[1] != 0  # effect: the two edges are two


def test_products_of_means_are_those_of_plain_formulas():
    """K: the error by cell in one layer, in loops."""
    snapshot = datasets.wine_sklearn()
    x, y = snapshot.layers[1], snapshot.labels
    p, s = snapshot.probabilities, snapshot.sample_weights
    top = bottom = 0.0
    for c in range(p.shape[1]):
        h = x.features[y == c, 0]
        plain = np.average(h, axis=0, weights=s[y == c])
        for k in range(p.shape[1]):
            if k == c:
                continue
            w = s[y == c] * p[y == c, k]
            e = x.errors[y == c, k, 0]
            mean = np.average(np.einsum("nb,na->nba", e, h), axis=0, weights=w)
            product = np.outer(np.average(e, axis=0, weights=w), plain)
            top += w.sum() * np.sum((mean - product) ** 2)
            bottom += w.sum() * np.sum(mean**2)
    found = claims.product_errors(snapshot, x.name)
    u = refspec.rounding.unit_roundoff(p)
    bound = refspec.rounding.gamma(8 * len(y), u) * 4
    assert abs(found.by_cell - np.sqrt(top / bottom)) <= bound
    assert found.by_cell > bound  # effect


def test_products_are_exact_where_errors_do_not_vary():
    """K's number is rounding alone where every sample of a class is the same."""
    snapshot = sampled(ties=True)
    for x in snapshot.layers:
        found = claims.product_errors(snapshot, x.name)
        u = refspec.rounding.unit_roundoff(snapshot.probabilities)
        assert found.by_cell <= refspec.rounding.gamma(64 * len(snapshot.labels), u)


def test_collapse_of_a_collapsed_network():
    """N: a simplex without variability is collapsed; noise is not."""
    C, n = 4, 5
    means = np.eye(C) - 1 / C
    labels = np.repeat(np.arange(C), n)
    rng = np.random.default_rng(0)

    def made(noise):
        h = means[labels] + noise * rng.standard_normal((C * n, C))
        logits = 9 * h @ means.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        errors = p[:, None, None, :] - np.eye(C)[None, :, None]
        layer = refspec.Layer("last", h[:, None], errors)
        return refspec.snapshot([layer], labels, probabilities=p)

    near, far = (claims.collapse(made(x)) for x in (0.0, 1.0))
    rounded = refspec.rounding.gamma(64 * C * n, 2.0**-53)
    for x in (near.nc1, near.nc2_lengths, near.nc2_angles):
        assert x <= rounded
    assert near.nc4 == 1
    assert far.nc1 > 0.1
    assert far.nc4 < 1


@pytest.mark.parametrize("row", [(0.0, 0.0), (1.0, 1.0), (0.1, 0.7)])
def test_equal_class_means_have_no_collapse(row):
    """Whatever rounding makes of their distances; and the finding says why."""
    s = sampled(counts=(3, 4, 4))
    last = s.layers[-1]
    every = np.zeros_like(last.features) + np.asarray(row)
    flat = refspec.Layer(last.name, every, last.errors)
    s = dataclasses.replace(s, layers=(s.layers[0], flat))
    assert all(np.isnan(list(dataclasses.asdict(claims.collapse(s)).values())))
    (found,) = claims.judge(s, "N")
    assert found.verdict == "cannot be judged"
    assert "class means are equal" in found.evidence[0].reason


def degenerate():
    """Networks of which some number does not exist, by what is odd about them."""
    three = ((3, 2), (2, 3), (3, 2))
    plain = sampled(counts=(4, 4, 4), sides=three)

    def changed(s, features, errors):
        layers = (
            refspec.Layer(x.name, features(x.features), errors(x.errors))
            for x in s.layers
        )
        return dataclasses.replace(s, layers=tuple(layers))

    def same(x):
        return x

    yield "constant features", changed(plain, np.ones_like, same)
    yield "features of zero", changed(plain, np.zeros_like, same)
    yield "errors of zero", changed(plain, same, np.zeros_like)
    yield "two classes", sampled(counts=(3, 3), sides=three)
    yield (
        "two constant classes",
        changed(sampled(counts=(3, 3), sides=three), np.ones_like, same),
    )
    yield "one sample a class", sampled(counts=(1, 1, 1), sides=three)
    yield "fitted to the bit", sampled(counts=(2, 2, 2), sides=three, certain=True)
    yield "nothing within", sampled(counts=(3, 3, 3), sides=three, ties=True)


@pytest.mark.parametrize(("about", "snapshot"), list(degenerate()))
def test_no_claim_says_nan(about, snapshot):
    """A number that does not exist is left out or explained, in words."""
    for top in (None, 1):
        for found in claims.judge(snapshot, top=top):
            for x in found.evidence:
                assert "nan" not in x.reason, about
                known = np.isfinite(list(x.numbers.values()))
                assert bool(np.any(known)) == (x.verdict != "cannot be judged"), about


def test_no_comparison_says_nan():
    """Of networks without anything within classes, of unknown epochs and errors."""
    nothing = {"within_edge": [0.0] * 3, "epochs": [1, 2, 3]}
    unknown = {"epochs": [np.nan] * 3, "label_noise": [0, 0.1, 0.2]}
    unknown |= {"test_error": [np.nan] * 3}
    members = [*series(**nothing), *series(network="b", **unknown)]
    for kind in ("none", "batch norm"):
        members += series(network="c", normalisation=kind, within_edge=[0.0])
    for found in claims.compare(members):
        assert found.verdict == "cannot be judged"
        for x in found.evidence:
            assert "nan" not in x.place + x.reason
            assert x.numbers == {}


@pytest.mark.parametrize(
    ("x", "verdict"), [(0.9, 0), (0.89, 1), (0.5, 1), (0.49, 2), (np.nan, 3)]
)
def test_a_share_is_graded(x, verdict):
    assert registry.graded(x) == VERDICTS[verdict]


@pytest.mark.parametrize(
    ("found", "expected", "verdict"),
    [
        ((10, 10), 10, 0),
        ((9, 10), 10, 1),
        ((5, 5), 10, 1),
        ((4, 4), 10, 2),
        ((21, 21), 10, 2),
    ],
)
def test_a_count_is_graded(found, expected, verdict):
    assert registry.counted(found, expected) == VERDICTS[verdict]


def test_places_that_disagree_hold_in_part():
    assert registry.together(["holds", "holds", "cannot be judged"]) == "holds"
    assert registry.together(["holds", "does not hold"]) == "holds in part"
    assert registry.together(["does not hold"] * 2) == "does not hold"
    assert registry.together([]) == "cannot be judged"


def test_the_command_says_it_and_writes_it(tmp_path):
    made = run("claims", "--only", "F,T", "--json", str(tmp_path / "c.json"))
    assert made.exit_code == 0
    assert "needs exports of one network" in made.output
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["schema"] == "refspec.claims/1"
    F, T = record["networks"][0]["claims"]
    assert T["verdict"] == "cannot be judged"
    assert F["places"][0]["numbers"]["of"] == 10
    wrong = run("claims", "--only", "F,Q")
    assert wrong.exit_code == 2
    assert "got Q" in wrong.output


def test_the_command_computes_once_what_several_claims_ask_for(tmp_path):
    """G, W and D look at the same edges: what one of them takes, all of them take."""
    path, taken = refspec.save(datasets.wine_sklearn(), tmp_path / "wine.npz"), []
    for asked in ("G", "G,W,D"):
        costs_of = []
        with costs.heard(costs_of.append):
            assert run("claims", path, "--only", asked).exit_code == 0
        taken.append(sum(x.products for x in costs_of))
    assert taken[0] == taken[1] > 0


def test_the_page_is_what_the_results_say():
    root = Path(__file__).parents[2]
    made = page(*read((root / "demos" / "results" / "claims").glob("*.json")))
    assert (root / "theory" / "claims.md").read_text() == made


def test_every_cell_without_a_verdict_says_why():
    text = (Path(__file__).parents[2] / "theory" / "claims.md").read_text()
    table = text.split("## Claims by networks")[1].split("## Counts")[0]
    cells = [
        x.strip() for r in table.splitlines() if r[:3] == "| [" for x in r.split("|")
    ]
    empty = {x for x in cells if x.startswith("-")}
    assert empty == {"- (a)", "- (b)", "- (c)", "- (d)"}
    assert all(f"\n{x}: " in table for x in empty)


def test_the_page_shows_counts_with_the_intervals_of_the_results():
    root = Path(__file__).parents[2]
    text = (root / "theory" / "claims.md").read_text()
    results = root / "demos" / "results" / "claims" / "resampled.json"
    name = "above the within edge, certainly"
    for x in json.loads(results.read_text()):
        start = f"| {x['network']} ("
        row = [r for r in text.splitlines() if r.startswith(start)][-1]
        (place,) = next(c for c in x["claims"] if c["id"] == "G")["places"]
        low, high = place["intervals"][name]
        number, of = place["numbers"][name], place["numbers"]["of "]
        assert f"| {number} of {of} ({low} to {high}) |" in row
        assert low <= number <= high


@pytest.mark.parametrize("name", ["wine_sklearn", "mnist_cnn"])
def test_the_largest_eigenvalues_alone_say_the_same(name):
    """Verdicts from products alone, but for what needs all eigenvalues."""
    snapshot = getattr(datasets, name)()
    every = claims.judge(snapshot, "GDKFEL", per_layer=False)
    for one, two in zip(
        every, claims.judge(snapshot, "GDKFEL", per_layer=False, whole=0), strict=True
    ):
        assert [x.verdict for x in one.evidence] == [x.verdict for x in two.evidence]
        assert [x.reason for x in one.evidence] == [x.reason for x in two.evidence]
    full, top = claims.edges(snapshot), claims.edges(snapshot, top=9)
    radius = full.attribution.radius + top.attribution.radius
    least = top.class_edge - top.attribution.levels["diagonal"][0]
    assert least - radius <= full.class_edge <= top.class_edge + radius
    assert abs(full.within_edge - top.within_edge) <= radius


def test_the_diagonal_makes_a_count_uncertain():
    """Of the largest alone the class edge is known to the diagonal's largest only."""
    s = sampled(3, counts=(6, 6, 6), sharpness=0.1)
    full, top = claims.edges(s), claims.edges(s, top=9)
    assert top.above_class[0] <= full.above_class[0] <= top.above_class[1]
    assert top.above_class[0] < top.above_class[1]  # effect: the diagonal is not small


def test_covariance_is_about_the_weighted_mean():
    """K: means of features with the weights of the gradients leave less."""
    for x in (s := datasets.wine_sklearn()).layers:
        found = claims.product_errors(s, x.name)
        assert found.covariance < found.by_cell


def test_signs_are_those_of_plain_formulas():
    """The eigenvalues that a series compares, from matrices formed by definition."""
    snapshot = datasets.wine_sklearn()
    whole, diagonal, between, within = independent(snapshot)
    found = claims.signs(snapshot)
    values = np.linalg.eigvalsh(whole)[::-1]
    rest = np.linalg.eigvalsh(whole - diagonal - between)[-1]
    cross = np.linalg.eigvalsh(whole - diagonal - between - within)[::-1]
    expected = (
        (found.largest, values[0]),
        (found.mean_top, values[:3].mean()),
        (found.last_top, values[2]),
        (found.class_edge, rest),
        (found.within_edge, np.linalg.eigvalsh(within)[-1]),
        (found.cross, np.median(cross[:3])),
        (found.within_trace, np.trace(within)),
        (found.trace, np.trace(whole)),
    )
    forming = refspec.rounding.gamma(64 * len(whole), 2.0**-53) * np.trace(whole)
    for one, two in expected:
        assert abs(one - two) <= found.radius + forming
        assert two > found.radius + forming  # effect


def series(network="net", normalisation="none", **over):
    """Networks that are alike but for lists given, and their numbers."""
    known = {"samples": 100, "epochs": 10.0, "label_noise": 0.0, "test_error": 0.1}
    numbers = ("cross", "within_edge", "mean_top", "largest")
    n = len(next(iter(over.values())))
    lists = {k: over.get(k, [x] * n) for k, x in known.items()}
    signs = {k: over.get(k, [1.0] * n) for k in numbers}
    return [
        claims.Member(
            network,
            normalisation,
            **{k: x[i] for k, x in lists.items()},
            numbers={k: x[i] for k, x in signs.items()},
        )
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("claim", "over", "verdict"),
    [
        ("T", {"epochs": [1, 2, 3], "cross": [1, 2, 3]}, 0),
        ("T", {"epochs": [1, 2, 3], "cross": [3, 2, 1]}, 2),
        ("T", {"samples": [1, 2, 3], "cross": [3, 2, 1]}, 0),
        ("T", {"samples": [1, 2, 3], "cross": [1, 2, 3]}, 2),
        ("T", {"epochs": [1, 2, 3], "cross": [1, 3, 2]}, 1),
        ("T", {"epochs": [1, 2, 2], "cross": [1, 2, 3]}, 3),
        (
            "M",
            {
                "label_noise": [0, 0.1, 0.2, 0.3],
                "test_error": [0.1, 0.2, 0.3, 0.4],
                "mean_top": [4, 3, 2, 1],
            },
            0,
        ),
        (
            "M",
            {
                "label_noise": [0, 0.1, 0.2, 0.3],
                "test_error": [0.1, 0.2, 0.3, 0.4],
                "mean_top": [1, 2, 3, 4],
            },
            2,
        ),
    ],
)
def test_a_series_is_judged_by_its_trend(claim, over, verdict):
    (found,) = claims.compare(series(**over), claim)
    assert found.verdict == VERDICTS[verdict]


@pytest.mark.parametrize(
    ("heights", "verdict"),
    [
        ((8.0, 2.0, 8.0), 0),
        ((8.0, 2.0, 4.1), 1),
        ((8.0, 2.0, 2.0), 2),
        ((2.0, 8.0, 8.0), 2),
        ((8.0, 2.0), 1),
        ((8.0,), 3),
    ],
)
def test_batch_norm_is_judged_by_what_the_mean_undoes(heights, verdict):
    kinds = ("none", "batch norm", "batch norm, mean put back")
    members = [
        x
        for kind, height in zip(kinds, heights, strict=False)
        for x in series(normalisation=kind, largest=[height])
    ]
    (found,) = claims.compare(members, "B")
    assert found.verdict == VERDICTS[verdict]


def test_networks_that_differ_in_two_respects_are_no_series():
    (found,) = claims.compare(
        series(epochs=[1, 2, 3], samples=[1, 2, 3], cross=[1, 2, 3]), "T"
    )
    assert found.verdict == "cannot be judged"
    assert "needs" in found.evidence[0].reason
    with pytest.raises(TypeError, match=r"refspec\.claims\.member"):
        claims.compare([datasets.wine_sklearn()])


def test_several_files_are_judged_together(tmp_path):
    paths = []
    for k in (1, 2, 3):
        s = datasets.wine_sklearn()
        path = tmp_path / f"{k}.npz"
        told = {"network": "wine", "epochs": k}
        again = refspec.snapshot(
            s.layers, s.labels, probabilities=s.probabilities, provenance=told
        )
        paths.append(str(refspec.save(again, path)))
    made = run("claims", *paths, "--only", "D,T", "--json", str(tmp_path / "c.json"))
    assert made.exit_code == 0, made.output
    (T,) = json.loads((tmp_path / "c.json").read_text())["together"]
    # three times the same network: no trend
    assert T["verdict"] == "cannot be judged"
    assert T["places"][0]["reason"].startswith("no trend in 0.61, 0.61, 0.61")


def test_what_is_exact_is_not_judged_by_its_rounding():
    """X: of constant features the Fisher is KFAC's product, as it is CFAC's."""
    s = datasets.wine_sklearn()
    one = refspec.Layer("fc", np.ones_like(s.layers[0].features), s.layers[0].errors)
    (finding,) = claims.judge(dataclasses.replace(s, layers=(one,)), ["X"])
    assert finding.verdict == "cannot be judged"
    assert "rounding" in finding.evidence[0].reason
    (finding,) = claims.judge(s, ["X"])
    assert all("rounding" not in x.reason for x in finding.evidence)


def test_spans_of_products_are_those_of_plain_formulas():
    """V: the top C eigenvectors in products of means, everything formed."""
    snapshot = datasets.wine_sklearn()
    x, y = snapshot.layers[1], snapshot.labels
    p, s = snapshot.probabilities, snapshot.sample_weights
    C = p.shape[1]
    d = np.zeros((C, x.errors.shape[3]))
    h = np.zeros((C, x.features.shape[2]))
    for c in range(C):
        w = (s[:, None] * p)[y == c] * (np.arange(C) != c)
        d[c] = np.einsum("nk,nkb->b", w, x.errors[y == c, :, 0]) / w.sum()
        h[c] = np.average(x.features[y == c, 0], axis=0, weights=s[y == c])
    F = refspec.fisher(snapshot, [x.name]).matrix()
    values, vectors = np.linalg.eigh(F)
    V = vectors[:, ::-1][:, :C]
    pairs = [(c, k) for c in range(C) for k in range(C)]
    found = claims.product_span(snapshot, x.name)
    for seen, chosen in (
        (found.matched, [(c, c) for c in range(C)]),
        (found.every, pairs),
    ):
        rows = np.stack([np.kron(d[c], h[k]) for c, k in chosen])
        q = np.linalg.svd(rows, full_matrices=False)
        basis = q[2][q[1] > q[1][0] * refspec.rounding.gamma(1024, 2.0**-53)]
        plain = np.mean(np.sum((basis @ V) ** 2, axis=0))
        # means that are nearly dependent, and a gap of the eigenvalues
        gap = np.diff(values)[-C] / values[-1] * q[1][len(basis) - 1] / q[1][0]
        assert abs(plain - seen) <= refspec.rounding.gamma(2**12, 2.0**-53) / gap
    assert found.matched < found.every < 1  # effect


def test_at_collapse_every_later_claim_is_true_or_false_as_proved():
    """N1 to N3: the gradient and the products hold, KFAC does not."""
    snapshot = collapse.collapsed(4, signal=3.0, alpha=0.1)
    found = {x.claim.id: x for x in claims.judge(snapshot, "AVU")}
    verdicts = {id: x.verdict for id, x in found.items()}
    assert verdicts.pop("U") != "holds"
    assert verdicts == {"A": "holds", "V": "holds"}
    numbers = {id: [*x.evidence[0].numbers.values()] for id, x in found.items()}
    u = refspec.rounding.gamma(2**12, 2.0**-53)
    assert abs(1 - numbers["A"][1]) <= u  # the first eigenvector has all of it
    assert abs(1 - numbers["V"][0]) <= u


def test_decoupling_is_the_error_of_kfac():
    """U: from both matrices, formed."""
    snapshot = datasets.wine_sklearn()
    for x, seen in zip(
        snapshot.layers,
        next(iter(claims.judge(snapshot, "U"))).evidence,
        strict=True,
    ):
        F = refspec.fisher(snapshot, [x.name]).matrix()
        K = refspec.kronecker.kfac(snapshot, x.name).matrix()
        plain = np.linalg.norm(K - F) / np.linalg.norm(F)
        off = next(iter(seen.numbers.values()))
        assert abs(off - plain) <= refspec.rounding.gamma(2**12, 2.0**-53)
        assert off > 0


def test_a_class_part_of_twice_the_weights_is_not_all_of_them():
    """What varies within classes takes it away again: theory/weights.md#D1."""
    s = refspec.datasets.digits_decay()
    (found,) = claims.judge(s, "P")
    assert [x.verdict for x in found.evidence] == ["holds in part"] * 2
    W = models.from_section(s.model).parameters
    last = next(x for x in W.values() if x.shape == (10, 12))
    h, e = s.layers[1].features[:, 0, :12], s.layers[1].errors[:, :, 0]
    e, eta = e[np.arange(len(e)), s.labels], s.provenance["weight_decay"]
    part = np.zeros_like(last)
    for c in range(10):
        mine = s.labels == c
        part -= mine.mean() * np.outer(e[mine].mean(axis=0), h[mine].mean(axis=0)) / eta
    within = -(e.T @ h) / len(e) / eta - part
    U, sigma, V = np.linalg.svd(last, full_matrices=False)
    of_classes, of_rest = (
        np.median([U[:, k] @ x @ V[k] / sigma[k] for k in range(10)])
        for x in (part, within)
    )
    share = list(found.evidence[1].numbers.values())[1]
    bound = rounding.gamma(2**16, 2.0**-53) * np.linalg.norm(part) / sigma[9]
    assert abs(share - of_classes) <= bound
    assert of_classes > 1.5  # the effect: far above all of it
    assert of_rest < -0.5
