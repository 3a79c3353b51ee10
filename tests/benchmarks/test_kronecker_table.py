"""Gradients with shared features against draws: theory/kronecker_designs.md in numbers.

Run as a script for the table alone, under pytest for the table and what it must show.
About a minute on one core.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script
from refspec.random_matrix import predict
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.random_matrix.kronecker.law import equivalent, expectation
from refspec.random_matrix.kronecker.outliers import kronecker_outliers
from refspec.random_matrix.kronecker.spectrum import stieltjes
from support.kronecker_worlds import features_anew, spectra, world

C = 4
#: b = a, samples of a class, draws.
SIZES = ((10, 10, 600), (16, 26, 200), (20, 40, 120))


def measures(b, n, draws):
    """Return relative errors by name, of draws of one world."""
    population = world(b, b, C, n)
    values = spectra(population, draws)
    start = time.process_time()
    made = predict(population)
    seconds = time.process_time() - start
    design = kronecker_design(population)
    total = np.sum(values[:, :C], axis=1)
    found = {"sum, se": np.std(total) / np.sqrt(draws) / np.mean(total)}
    edge = made.bands[-1].upper
    z = complex(2, 1) * np.mean(values)
    centre = np.mean(1 / (values - z))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("shared", "iid"):
            if name == "iid":
                features_anew(patch)
            sums = np.sum(kronecker_outliers(design, edge).centres[:C])
            found[f"sum, {name}"] = sums / np.mean(total) - 1
            m = stieltjes(design, equivalent(design, z))
            found[f"m(z), {name}"] = abs(m / centre - 1)
    limit = expectation(design)
    top = np.linalg.eigvalsh((limit.blocks[0] + limit.signal).real)[-C:]
    found["sum, population"] = np.sum(top) / np.mean(total) - 1
    ratio = np.std(values[:, :C], axis=0) / made.fixed.deviations[:C]
    found["deviations, drawn / predicted"] = np.mean(ratio)
    off = np.mean(values[:, :C], axis=0) / made.fixed.values[:C] - 1
    found["each in order, worst"] = np.max(np.abs(off))
    found["KS of a draw"] = np.mean([kolmogorov(made, v) for v in values[:40]])
    found["KFAC top / true"] = made.kfac[0] / np.mean(values[:, 0])
    found["seconds of predict"] = seconds
    return found


def table():
    """Return every measure at every size."""
    columns = [measures(*size) for size in SIZES]
    return {name: [x[name] for x in columns] for name in columns[0]}


def test_table():
    found = table()
    for k, (b, _, _) in enumerate(SIZES):
        error = 4 * found["sum, se"][k]
        assert abs(found["sum, shared"][k]) <= error + 1 / (2 * b * b)
        assert found["m(z), shared"][k] <= 5 / b**2
        assert found["KS of a draw"][k] <= 0.7 / b
        assert found["KFAC top / true"][k] <= 1 / 2
        assert found["each in order, worst"][k] <= 0.05
    assert found["m(z), iid"][-1] > 10 / SIZES[-1][0] ** 2  # does not fall with P
    assert abs(found["sum, iid"][-1]) > 4 * found["sum, se"][-1]


if __name__ == "__main__":
    heads = (f"P = {b * b}" for b, _, _ in SIZES)
    print(f"{'':32}" + "".join(f"{x:>10}" for x in heads))
    for name, row in table().items():
        cells = "".join(f"{x:>10.4f}" for x in row)
        print(f"{name:32}{cells}")
