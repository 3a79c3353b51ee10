"""The networks that refspec and its peers are timed on: MLPs fitted to digits.

Trained once by refspec itself and kept in .cache/ at the top of the checkout.
"""

from pathlib import Path

import numpy as np

SIZES = {
    "a": ((64, 32, 10), "tanh"),
    "b": ((64, 64, 64, 10), "relu"),
    "c": ((64, 256, 256, 10), "relu"),
}


def load(name):
    """Return (network, X, y) in float64, trained to 100 % accuracy."""
    from sklearn.datasets import load_digits

    from refspec import models
    from refspec.models import training

    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    dims, activation = SIZES[name]
    file = Path(__file__).parents[2] / ".cache" / f"digits_{name}.npz"
    network = models.mlp(list(dims), activation, rng=np.random.default_rng(0))
    if not file.exists():
        network = training.fit(
            network, X, y, method="adam", steps=600, learning_rate=3e-3
        )
        file.parent.mkdir(exist_ok=True)
        np.savez(file, vector=models.flatten(network))
    with np.load(file) as stored:
        return models.unflatten(network, stored["vector"]), X, y


def as_torch(network):
    """Return the network as a float64 torch.nn.Sequential."""
    import torch

    torch.set_default_dtype(torch.float64)
    kinds = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
    parts = []
    for operation in network.operations:
        if operation["op"] == "linear":
            W = torch.tensor(np.asarray(network.parameters[operation["weight"]]))
            layer = torch.nn.Linear(W.shape[1], W.shape[0])
            layer.weight.data = W
            layer.bias.data = torch.tensor(
                np.asarray(network.parameters[operation["bias"]])
            )
            parts.append(layer)
        else:
            parts.append(kinds[operation["op"]]())
    return torch.nn.Sequential(*parts)
