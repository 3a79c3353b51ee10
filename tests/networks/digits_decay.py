"""Train a network on digits until it is stationary; needs torch, scikit-learn.

    python tests/networks/digits_decay.py [refspec/data/digits_decay.npz]

A 64-12-10 tanh network in float64 learns the first 1000 of scikit-learn's digits as
`iris_decay.py` has it: to a minimum with weight decay, the gradient rounding. The other
797 say how well it reads. The export holds the network and the pixels; features and
errors are computed when it is read.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from networks.iris_decay import train
from refspec.exporters.torch import export

LEARNED, HIDDEN, DECAY = 1000, 12, 1e-3


def network() -> nn.Sequential:
    """Return the network before training."""
    torch.manual_seed(0)
    steps = {"fc1": nn.Linear(64, HIDDEN), "tanh": nn.Tanh()}
    steps["fc2"] = nn.Linear(HIDDEN, 10)
    return nn.Sequential(OrderedDict(steps)).double()


def main(path: Path) -> None:
    """Train, export, and say how well the network reads."""
    torch.set_num_threads(1)
    digits = load_digits()
    X, y = torch.tensor(digits.data) / 16, torch.tensor(digits.target)
    model = network()
    slope = train(model, X[:LEARNED], y[:LEARNED], DECAY)
    right = (model(X).argmax(1) == y).double()
    loss = nn.functional.cross_entropy(model(X[:LEARNED]), y[:LEARNED])
    said = {
        "data": "sklearn.datasets.load_digits (BSD-3), the first 1000",
        "mean_loss": loss.item(),
        "test_error": 1 - right[LEARNED:].mean().item(),
        "weight_decay": DECAY,
        "gradient_norm": slope,
    }
    names = [str(x) for x in digits.target_names]
    batch = [(X[:LEARNED], y[:LEARNED])]
    export(model, batch, path, class_names=names, provenance=said, recomputed=True)
    sys.stdout.write(
        f"training accuracy {right[:LEARNED].mean():.4f}, test error "
        f"{said['test_error']:.4f}, gradient {slope:.1e}, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/digits_decay.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
