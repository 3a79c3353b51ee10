"""What strategies draw is valid, in every namespace; impossible arguments raise."""

import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refspec
from refspec import backend, models, rounding
from refspec import strategies as rst
from refspec.strategies import samples

NAMESPACES = st.sampled_from([None, array_api_strict])
DTYPES = st.sampled_from(["float64", "float32"])


def score_ratio(p, layer):
    """Largest sum_c' p delta over its bound: C products an error, C more to sum."""
    p, errors = (backend.to_host(x).astype(float) for x in (p, layer.errors))
    u = rounding.unit_roundoff(layer.errors)
    C = p.shape[1]
    gap = np.abs(np.sum(p[:, :, None, None] * errors, axis=1))
    return gap, rounding.gamma(4 * C + 8, u), errors


@given(rst.snapshots(scored=True, exact=True, allow_zero=False))
def test_scored_errors_are_those_of_a_network(snapshot):
    """|delta_c'| <= 9 sum |p - e_c'| <= 18 J with J of whole numbers up to 9."""
    for layer in snapshot.layers:
        gap, gamma, _ = score_ratio(snapshot.probabilities, layer)
        assert gap.max() <= gamma * 18 * snapshot.probabilities.shape[1]


@given(st.data(), NAMESPACES, DTYPES)
def test_arrays_are_of_the_namespace_and_dtype(data, xp, dtype):
    how = {"xp": xp, "dtype": dtype}
    snapshot = data.draw(rst.snapshots(scored=None, **how))
    network = data.draw(rst.labelled_networks(**how))
    matrix = data.draw(rst.symmetric_matrices(**how))
    arrays = [
        snapshot.probabilities,
        snapshot.layers[0].errors,
        snapshot.sample_weights,
        network.inputs,
        network.snapshot().probabilities,
        matrix.matrix,
        data.draw(rst.class_arrays(**how)).values,
        data.draw(rst.worlds(**how)).snapshot.probabilities,
    ]
    for x in arrays:
        assert isinstance(x, np.ndarray) == (xp is None)
        assert backend.to_host(x).dtype == dtype


@given(rst.snapshots(exact=True, scored=False), rst.class_arrays(exact=True))
def test_exact_data_are_whole_numbers(snapshot, array):
    for x in (snapshot.layers[0].features, snapshot.layers[0].errors, array.values):
        assert (x == np.round(x)).all()
    root = np.sqrt(array.weights)
    assert (root == np.round(root)).all()


@given(rst.symmetric_matrices())
def test_prescribed_eigenvalues_are_within_their_radius(m):
    computed = np.linalg.eigvalsh(m.matrix)[::-1]
    norm = np.abs(computed).max(initial=0)
    solver = rounding.eigensolver_radius(len(computed), norm, 2.0**-53)
    assert (m.matrix == m.matrix.T).all()
    assert np.abs(computed - m.values).max() <= m.radius + solver
    bound = rounding.gamma(8 * len(computed) ** 2, 2.0**-53)
    assert m.radius <= bound * max(1.0, norm)


@given(rst.samples.labels(shuffled=True))
def test_every_class_is_present(y):
    assert set(y) == set(range(y.max() + 1))
    assert y.max() >= 1


@given(rst.networks(smooth=True, bias=False, classes=3))
def test_networks_are_as_asked(network):
    kinds = {x["op"] for x in network.operations}
    assert "relu" not in kinds
    assert not any(key.endswith("bias") for key in network.parameters)
    assert list(models.layer_shapes(network).values())[-1][0] == 3


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda: rst.samples.class_sizes(min_classes=1), "classes C must have a range"),
        (lambda: rst.samples.class_sizes(max_per_class=0), "samples a class"),
        (lambda: rst.samples.labels((3,)), "sizes must hold C >= 2"),
        (lambda: rst.samples.labels((3, 0)), "must be an integer >= 1"),
        (lambda: rst.samples.sample_weights(0), "samples N"),
        (lambda: rst.probabilities(2, 1), "classes C"),
        (lambda: rst.class_arrays(max_dimension=0), "dimension d"),
        (lambda: rst.class_arrays(dtype="int8"), "dtype must be"),
        (lambda: rst.layers(2, 2, max_inputs=0), "size a"),
        (lambda: rst.snapshots(max_layers=0), "number of layers"),
        (lambda: rst.networks(classes=1), "classes C"),
        (lambda: rst.networks(max_width=0), "width"),
        (lambda: rst.labelled_networks(max_layers=0), "number of layers"),
        (lambda: rst.worlds(max_layers=0), "number of layers"),
        (
            lambda: rst.symmetric_matrices(kinds=("round",)),
            "each of kinds must be one of",
        ),
        (lambda: rst.symmetric_matrices(min_side=9), "side n"),
    ],
)
def test_impossible_arguments_raise(strategy, message):
    @given(st.data())
    def draw(data):
        data.draw(strategy())

    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    "kind",
    [
        refspec.ClassArray,
        refspec.Layer,
        refspec.ModelSection,
        refspec.Snapshot,
        models.Network,
    ],
)
def test_from_type(kind):
    @given(st.from_type(kind))
    def draw(x):
        assert isinstance(x, kind)

    draw()


@pytest.mark.slow
def test_hypothesis_registers_by_itself(tmp_path):
    """With refspec's entry point on the path, no import of refspec.strategies."""
    from configparser import ConfigParser
    from pathlib import Path

    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    points = setup["options.entry_points"]["hypothesis"].strip()
    info = tmp_path / "refspec-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: refspec\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[hypothesis]\n{points}\n")
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from hypothesis import given, strategies as st
assert "refspec.strategies" not in sys.modules
import refspec
@given(st.from_type(refspec.Snapshot))
def draw(x):
    assert isinstance(x, refspec.Snapshot)
draw()
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)


def test_refspec_does_not_import_hypothesis():
    program = "import refspec, sys; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.data())
def test_choices_are_of_the_table(data):
    found = samples.choices(data.draw, [7, 8], data.draw(st.integers(0, 40)))
    assert set(found) <= {7, 8}
