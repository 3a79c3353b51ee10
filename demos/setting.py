"""What the demos share: their two options, digits to train on, where pictures go."""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from refspec import models, plots
from refspec.models import training


def options(claim):
    """Return the options of a demo: `quick`, and `plot`, a folder or None."""
    parser = argparse.ArgumentParser(description=claim.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, seconds")
    parser.add_argument("--plot", type=Path, help="folder for the picture")
    return parser.parse_args()


def digits(per_class):
    """Return `per_class` of scikit-learn's digits of each class, sorted, in [0, 1]."""
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == c)[:per_class] for c in range(10)])
    return X[rows] / 16.0, y[rows]


def trained(hidden, X, y, *, steps, activation="relu", seed=0, start=None, **how):
    """Return an MLP after `steps` of Adam, from Glorot weights or from `start`."""
    rng = np.random.default_rng(seed)
    dims = [X.shape[1], *hidden, 10]
    network = start or models.mlp(dims, activation, rng=rng)
    return training.fit(
        network, X, y, method="adam", steps=steps, **{"learning_rate": 3e-3, **how}
    )


def save(figure, name, folder):
    """Write the picture if a folder was given, and say where."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        print("picture:", plots.save(figure, folder / f"{name}.png"))
