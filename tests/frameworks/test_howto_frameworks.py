"""The how-to pages that need PyTorch or JAX."""

import importlib.util

import pytest

from support.howto import run


@pytest.mark.parametrize(
    ("name", "library"),
    [("howto_test_your_kfac", "torch"), ("howto_test_your_slq", "jax")],
)
def test_page(name, library, tmp_path):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    run(name, tmp_path)
