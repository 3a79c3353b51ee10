"""Exporters are there without their frameworks; what is used says what it needs."""

import importlib.util
import subprocess
import sys

import pytest

import refspec

FRAMEWORKS = ("jax", "onnx", "sklearn", "torch")


def test_exporters_are_attributes_and_import_nothing():
    code = (
        "import sys, refspec; refspec.exporters; dir(refspec.exporters); "
        "print([x for x in ('jax', 'onnx', 'rich', 'sklearn', 'torch') "
        "if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_is_imported_when_it_is_used(name):
    assert name in dir(refspec.exporters)
    if importlib.util.find_spec(name) is None:
        with pytest.raises(ImportError, match=rf"pip install 'refspec\[{name}\]'"):
            getattr(refspec.exporters, name)
    else:
        assert callable(getattr(refspec.exporters, name).export)


def test_there_are_no_others():
    with pytest.raises(AttributeError, match=r"'refspec\.exporters' has no attribute"):
        refspec.exporters.keras  # noqa: B018
