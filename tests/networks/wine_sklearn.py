"""Fit scikit-learn's MLPClassifier and write its export; needs scikit-learn.

    python tests/networks/wine_sklearn.py [refspec/data/wine_sklearn.npz]

A pipeline of StandardScaler and a 13-10-8-3 logistic network, fitted by L-BFGS in
float64 to 100 % training accuracy on scikit-learn's 178 wines (59, 71 and 48 of each of
three kinds), all of which are exported.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sklearn.datasets import load_wine
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from refspec.exporters.sklearn import export


def main(path: Path) -> None:
    """Fit, export, and say how well the network fits."""
    wine = load_wine()
    X, y = wine.data, wine.target_names[wine.target]
    network = MLPClassifier(
        (10, 8), activation="logistic", solver="lbfgs", max_iter=2000, random_state=0
    )
    model = make_pipeline(StandardScaler(), network).fit(X, y)
    said = {"data": "sklearn.datasets.load_wine (BSD-3)"}
    export(model, [(X, y)], path, provenance=said)
    sys.stdout.write(
        f"training accuracy {model.score(X, y):.4f}, {len(y)} samples, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/wine_sklearn.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
