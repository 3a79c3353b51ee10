"""The pytest plugin in a pytest of its own, found through refspec's entry points."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a test file where refspec is installed, as far as its metadata go."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    points = setup["options.entry_points"]
    info = pytester.mkdir("site") / "refspec-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: refspec\nVersion: 0\n")
    groups = (f"[{x}]\n{points[x].strip()}\n" for x in ("pytest11", "hypothesis"))
    (info / "entry_points.txt").write_text("".join(groups))
    monkeypatch.setenv("PYTHONPATH", f"{info.parent}:{ROOT}")
    # other plugins import numpy by themselves; -p finds ours by its entry point
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source, *arguments):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "refspec", *arguments)

    return run


def test_nothing_is_imported_unless_used(run):
    result = run(
        """
        import sys

        def test_start_up(request):
            assert request.config.pluginmanager.has_plugin("refspec")
            heavy = {"numpy", "scipy", "hypothesis", "refspec.classes"}
            assert not heavy & set(sys.modules)
        """
    )
    result.assert_outcomes(passed=1)


def test_fixtures(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # or it is there twice
    pytester.makepyfile(
        """
        from refspec import curvature, synthetic
        from refspec.testing import assert_operator

        def test_networks(refspec_networks):
            s = refspec_networks["digits_mlp"]
            assert s.probabilities.shape == (400, 10)
            assert all(x.layers for x in refspec_networks.values())

        def test_world(refspec_world):
            s = refspec_world.snapshot
            assert s.offsets == (0, 20, 50, 90)
            assert_operator(curvature.fisher(s).matrix(), s)
            assert synthetic.expected_fisher(refspec_world).shape == (20, 20)
        """
    )
    # in this process: numpy is here already
    result = pytester.runpytest_inprocess("-p", "refspec.pytest_plugin")
    result.assert_outcomes(passed=2)


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True])
def test_deep_profile(run, deep):
    result = run(
        """
        from hypothesis import HealthCheck, given, settings, strategies as st
        import refspec

        @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
        @given(st.from_type(refspec.Layer))
        def test_own_settings_stay(layer):
            assert layer.parameters > 0

        def test_default():
            print("examples:", settings.default.max_examples)
        """,
        "-s",
        *["--refspec-deep"] * deep,
    )
    result.assert_outcomes(passed=2)
    assert f"examples: {5000 if deep else 100}" in result.stdout.str()


def test_help_says_what_the_option_does(run):
    words = run("", "--help").stdout.str().split()
    assert "no test is deselected" in " ".join(words)


@pytest.mark.slow
def test_import_refspec_imports_nothing_heavy():
    program = """
import refspec, sys
heavy = {"numpy", "scipy", "hypothesis", "matplotlib", "rich", "typer", "torch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert refspec.Snapshot is refspec.classes.Snapshot
assert "refspec.attribution" not in sys.modules
try:
    refspec.nonsense
except AttributeError as error:
    assert "has no attribute 'nonsense'" in str(error)
else:
    raise SystemExit("an unknown name must raise")
for name in refspec.__all__:
    getattr(refspec, name)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
