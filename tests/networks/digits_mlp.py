"""Train the embedded network and write its export; needs torch and scikit-learn.

    python tests/networks/digits_mlp.py [refspec/data/digits_mlp.npz]

A 64-32-16-10 relu network learns all 1797 digits of scikit-learn to 100 % training
accuracy and far past zero error, so that class means dominate; 400 samples of unequal
classes (31, 33, ..., 49) are exported. Everything is seeded, but the sums of a training
step depend on the number of threads and on the version of torch: the script fixes one
thread, and another machine may still give another network of the same kind.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from refspec.export.containers import read, write
from refspec.export.schema import PARAMETERS
from refspec.exporters.torch import export

WIDTHS = (64, 32, 16, 10)
STEPS = 1500


def train(X: torch.Tensor, y: torch.Tensor) -> nn.Sequential:
    """Return the network after full-batch Adam on the cross entropy."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {}
    for k, (a, b) in enumerate(itertools.pairwise(WIDTHS), start=1):
        modules |= {f"fc{k}": nn.Linear(a, b), f"relu{k}": nn.ReLU()}
    modules.popitem()  # the last layer gives logits
    model = nn.Sequential(OrderedDict(modules))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    return model


def choose(y: np.ndarray) -> np.ndarray:
    """Return the indices of 31, 33, ..., 49 samples of classes 0, 1, ..., 9."""
    rng = np.random.default_rng(0)
    counts = range(31, 50, 2)
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(y == c), n, replace=False)
            for c, n in enumerate(counts)
        ]
    )


def state_loss(path: Path, loss: float) -> None:
    """Add the framework's own mean loss to the manifest: what ties the labels down."""
    manifest, arrays = read(path)
    fixed = {k: arrays.pop(k) for k in list(arrays) if k.startswith(PARAMETERS)}
    write(path, manifest | {"mean_loss": loss}, [arrays], fixed)


def main(path: Path) -> None:
    """Train, export, and say how well the network fits."""
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    X = torch.tensor(images / 16, dtype=torch.float32)
    y = torch.tensor(labels)
    model = train(X, y)
    accuracy = float((model(X).argmax(1) == y).double().mean())
    chosen = choose(labels)
    export(model, [(X[chosen], y[chosen])], path, class_names=list("0123456789"))
    state_loss(path, float(nn.functional.cross_entropy(model(X[chosen]), y[chosen])))
    sys.stdout.write(
        f"training accuracy {accuracy:.4f}, {len(chosen)} samples, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/digits_mlp.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
