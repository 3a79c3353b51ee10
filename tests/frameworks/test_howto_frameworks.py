"""The how-to pages that need PyTorch or JAX."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_howto import run


@pytest.mark.parametrize(
    ("name", "library"),
    [("howto_test_your_kfac", "torch"), ("howto_test_your_slq", "jax")],
)
def test_page(name, library, tmp_path):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    run(name, tmp_path)
