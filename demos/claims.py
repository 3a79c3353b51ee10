"""What the paper's sentences are worth on networks of its size, a panel a claim.

From the committed results of tests/networks/judged.py; theory/claims.md has the numbers
in words. Broken lines are the thresholds: above the upper one a sentence holds, between
the two in part. A colour is a network of 1360 images, named in a panel G; grey is none
of them. VGG11 and ResNet18 without batch norm have the colour of those with it, broken
or hatched; of ResNet18 without it there are 340 images. The last six panels are of
small networks: what needs a whole matrix (H, X), and what others claimed (A, V, U); in
G and A beside them are recurrent networks that hear who speaks, A at several epochs.
Theory: theory/levels.md#L1, #L2; theory/attribution.md#A1.
"""

# %% The results, and names for what they hold
from pathlib import Path

import numpy as np
from setting import options, save

from refspec import plots
from refspec.claims.__main__ import members, read

at = options(__doc__)
records, _ = read((Path(__file__).parent / "results" / "claims").glob("*.json"))
ended = [x for x in records if x["claims"] and x.get("epochs") == x.get("schedule")]
small = [x for x in ended if x["network"].startswith("digits_mlp8")]
plain = [  # each with the most samples it was trained on
    max((x for x in ended if x["network"] == n), key=lambda x: x["samples"])
    for n in ("vgg11", "resnet18")
]
broken = {x["network"] for x in plain}
large = [x for x in ended if x["samples"] == 1360 and "digits" not in x["network"]]
large = [x for x in large if x["network"] not in broken]
speech = [x for x in ended if x["network"].startswith("vowels")]
early = [x for x in records if x["claims"] and x.get("schedule")]
trainings = members(records)
kept = [*(f"C{k}" for k in range(10) if k != 7), "k"]  # without the grey
names = [x["network"] for x in [*large, *small, *speech]]
colours = dict(zip(names, kept, strict=True))
colours |= {n: colours[f"{n}_bn"] for n in broken}
judged = [*large, *plain]


def numbers(record, id):
    """Return the numbers of a claim, place by place."""
    return [
        y["numbers"] for c in record["claims"] if c["id"] == id for y in c["places"]
    ]


def thresholds(ax, ylabel, title):
    """Draw the lines from which on a sentence holds, or holds in part."""
    for y in (0.9, 0.5):
        ax.axhline(y, color="0.6", linestyle="--", linewidth=0.8)
    ax.set(ylabel=ylabel, title=title)


def over_depth(ax, id, title, ylabel, value):
    """Draw a number of every layer against its place in the network."""
    for record in judged:
        y = [value(x) for x in numbers(record, id) if x]
        if y:
            x = np.linspace(1, 0, len(y))[::-1]  # of one, it is the last
            ax.plot(x, y, ".-", color=colours[record["network"]])
    ax.set(xlabel="depth, input to output")
    thresholds(ax, ylabel, f"{id}: {title}")


def bars(ax, id, title, ylabel, value):
    """Draw a number of every network."""
    y = {r["network"]: value(x[0]) for r in judged if (x := numbers(r, id))}
    hatches = ["//" if n in broken else "" for n in y]
    ax.bar(
        range(len(y)),
        list(y.values()),
        color=[colours[n] for n in y],
        hatch=hatches,
        edgecolor="white",
        linewidth=0,
    )
    ax.set_xticks(range(len(y)), list(y), rotation=30, ha="right", fontsize=6)
    thresholds(ax, ylabel, f"{id}: {title}")


def over_the_edge(ax, title):
    """Draw the eigenvalues of every network over the largest of its within level."""
    for record in judged:
        y = np.array(record["spectrum"]["values"]) / record["signs"]["within_edge"]
        name = record["network"].removeprefix("digits_")
        x = np.arange(1, len(y) + 1)
        line = "--" if name in broken else "-"
        ax.loglog(x, y, line, label=name, color=colours[record["network"]])
    ax.axhline(1, color="0.6", linewidth=0.8)
    ax.axvline(90, color="0.6", linewidth=0.8)
    ax.set(title=f"G: {title}", xlabel="rank; C(C-1) = 90", ylabel="")
    ax.legend(frameon=False, fontsize=7)


def ratio(m, of):
    """Return eigenvalues over the largest of the within level."""
    return m.numbers[of] / m.numbers["within_edge"]


# %% Twelve panels of networks of the paper's size
figure, axes = plots.figure(6, 3)
F, E, G, W, D, K, L, T, M, P, B, N = np.ravel(axes)[:12]
certain = "above the within-class edge, certainly"
over_depth(F, "F", "outliers of features", "of C", lambda x: x[certain] / x["of"])
certain = "above the edge without class means, certainly"
over_depth(E, "E", "outliers of errors", "of C", lambda x: x[certain] / x["of"])
over_the_edge(G, "Fisher, over the within edge")
share = "share of the within level in the bulk's trace"
bars(W, "W", "the bulk is within", "share", lambda x: x[share])
bars(
    D,
    "D",
    "the diagonal is nothing",
    "1 - share",
    lambda x: 1 - x["share of the trace"],
)
cell = "relative error by cell"
over_depth(K, "K", "means are products", "1 - error", lambda x: 1 - x[cell])
for record in judged:
    found = [list(x.values()) for x in numbers(record, "L")]
    if found:
        L.plot(range(6), np.ravel(found), ".", color=colours[record["network"]])
names = [
    f"{of}\n{x}" for of in ("features", "errors") for x in ("sep.", "orth.", "cos")
]
L.set_xticks(range(6), names, fontsize=5)
thresholds(L, "rank correlation", "L: depth separates")
for normalisation, marker, name in (
    ("none", "o-", "mlp"),
    ("batch norm", "s-", "mlp_bn"),
):
    for along, style in (("epochs", 1.0), ("samples", 0.4)):
        some = [m for m in trainings if m.network == "mlp"]
        some = [m for m in some if m.normalisation == normalisation]
        if along == "epochs":
            some = [m for m in some if m.samples == 1360]
        else:
            some = [m for m in some if m.epochs == 100]
        some = sorted(some, key=lambda m, a=along: getattr(m, a))
        x = [getattr(m, along) for m in some]
        y = [ratio(m, "cross") for m in some]
        how = {"alpha": style, "color": colours[name]}
        T.loglog(x, y, marker, label=f"{name}, {along}", **how)
T.set(title="T: cross over within", xlabel="epochs, or samples", ylabel="")
T.legend(frameon=False, fontsize=7)
noisy = [m for m in trainings if m.network == "small_mlp"]
for epochs, marker, grey in ((10, "o", "0.6"), (100, "^", "0.2")):
    some = [m for m in noisy if m.epochs == epochs]
    x, y = [m.test_error for m in some], [ratio(m, "mean_top") for m in some]
    M.plot(x, y, marker, color=grey, label=f"{epochs} epochs")
M.set(title="M: outlier over bulk", xlabel="test error", ylabel="")
M.legend(frameon=False, fontsize=7)
part = "median share of the class part in the top C singular values"
over_depth(P, "P", "weights from means", "class part", lambda x: x[part])
kinds = ("none", "batch norm", "batch norm, mean put back")
for samples, shift, grey in ((340, -0.2, "0.7"), (1360, 0.2, "0.4")):
    found = {
        m.normalisation: ratio(m, "largest")
        for m in trainings
        if (m.network, m.samples, m.epochs) == ("mlp", samples, 100)
    }
    x = np.arange(3) + shift
    heights, label = [found[k] for k in kinds], f"N = {samples}"
    B.bar(x, heights, width=0.4, color=grey, label=label)
B.set_xticks(range(3), ["none", "batch norm", "mean back"], fontsize=6)
B.set(title="B: largest over within", ylabel="")
B.legend(frameon=False, fontsize=7)
nc1 = "NC1, tr(S_W S_B^+) / C"
bars(N, "N", "neural collapse, NC1", "1 - NC1", lambda x: 1 - x[nc1])

# %% Small networks: the Hessian, approximations of a layer, and what others claimed
judged = [*small, *speech]
G, H, X, A, V, U = np.ravel(axes)[12:]
over_the_edge(G, "of small networks")
G.set_xlabel("rank; C(C-1) = 90, of the vowels 72")
judged = small
share = "least share of the Fisher information in a top eigenvalue"
bars(H, "H", "Hessian from the Fisher", "least share", lambda x: x[share])
products = [
    ("Frobenius error of KFAC", "o:", "KFAC"),
    ("Frobenius error of CFAC", "s-", "CFAC"),
    ("Frobenius error of the nearest 10 products", "^--", "nearest ten products"),
]
for key, line, name in products:
    found = [x for x in numbers(small[0], "X") if x]
    y = [x[key] for x in found]
    X.plot(np.linspace(0, 1, len(y)), y, line, color="0.3", label=name)
X.set(title="X: of digits_mlp8", xlabel="depth, input to output", ylabel="error")
X.legend(frameon=False, fontsize=7)
part = "part of the gradient in the top"
for name in [x["network"] for x in [*small, *speech]]:
    on_its_way = [x for x in early if x["network"] == name and numbers(x, "A")]
    found = {
        x["epochs"]: next(
            v for k, v in numbers(x, "A")[0].items() if k.startswith(part)
        )
        for x in on_its_way
    }
    x = sorted(found)
    A.semilogx(x, [found[k] for k in x], "o-", color=colours[name])
A.set(xlabel="epochs")
thresholds(A, "part", "A: gradients in the top space")
part = "of the top C eigenvectors in C products of means"
over_depth(V, "V", "eigenvectors are products", "part", lambda x: x[part])
overlap = "overlap of the top C eigenspaces"
over_depth(U, "U", "outputs and features apart", "overlap", lambda x: x[overlap])
save(figure, "claims", at.plot)

# %% No bump of C(C-1) eigenvalues stands apart on any of them
above = "above the within edge, possibly"
shown = [*large, *plain, *small, *speech]
counts = {x["network"]: numbers(x, "G")[0][above] for x in shown}
print("above the within edge, of 90:", counts)
assert max(counts.values()) < 90 / 2
