"""Where the examples of pages run: a folder of their own, with an export in it."""

import pytest

import refspec


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Go where `mine.npz` is the embedded network's."""
    monkeypatch.chdir(tmp_path)
    refspec.save(refspec.datasets.digits_mlp(), "mine.npz")
