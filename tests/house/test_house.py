"""The house rules that a machine can check: see CONTRIBUTING.md."""

import ast
import functools
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted((ROOT / "refspec").rglob("*.py"))
MODULES = [x for x in SOURCES if x.name != "__init__.py"]
PYTHON = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "demos").rglob("*.py")),
]
TOLERANCES = {"allclose", "assert_allclose", "approx", "isclose", "rtol", "atol"}
TEXTS = (".py", ".md", ".cfg", ".toml", ".json", ".html", ".j2")
SOMEBODYS = re.compile("|".join(f"/{x}/" for x in ("home", "root", "work", "tmp")))
HEAVY = {
    "cupy",
    "hypothesis",
    "jax",
    "jinja2",
    "matplotlib",
    "onnx",
    "pandas",
    "pytest",
}
HEAVY |= {"rich", "sklearn", "torch", "typer", "xarray", "zarr"}


def name(path):
    return str(path.relative_to(ROOT))


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def tolerances(path):
    """Yield the tolerances a program names: as things, attributes or arguments."""
    text = path.read_text(encoding="utf-8")
    if not any(word in text for word in TOLERANCES):
        return
    for node in ast.walk(tree(path)):
        for field in ("id", "attr", "arg", "name"):
            if getattr(node, field, None) in TOLERANCES:
                yield getattr(node, field), node.lineno


def all_of(package):
    """Return the literal __all__ of a package."""
    init = package / "__init__.py"
    for node in tree(init).body if init.exists() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def is_exported(path, what):
    """Whether a package exports a name, or the module it is in (or `export` alone)."""
    if path.parent.name == "exporters":
        return what in ("across_ranks", "export", "hessian", "moment", "stream")
    if path.parent.name == "refspec" and path.stem in ("jax", "torch"):
        return what == "attribute"
    every = all_of(path.parent)
    return what in every or path.stem in every


def has_all(path):
    """Whether a module says itself what it exports."""
    return "\n__all__ = " in path.read_text(encoding="utf-8")


def documented(path):
    """Yield the functions, classes and methods of a module with what is exported."""
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            known = is_exported(path, node.name)
            yield node.name, node, known
            for child in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(child, ast.FunctionDef):
                    own = known and child.name[0] != "_"
                    yield f"{node.name}.{child.name}", child, own


def long_helpers(path):
    """Yield the helpers with more than four lines of docstring."""
    for what, node, known in documented(path):
        text = ast.get_docstring(node, clean=True) or ""
        if isinstance(node, ast.FunctionDef) and not known:
            lines = len(text.splitlines())
            if lines > 4:
                yield f"{what}: {lines} lines"


def raises(function):
    """Whether the body itself raises."""
    return any(isinstance(x, ast.Raise) for x in ast.walk(function))


def faults(path):
    """Yield what is missing from the docstrings of a module."""
    for what, node, _ in documented(path):
        if "_" in (what[0], what.split(".")[-1][0]):
            continue
        text = ast.get_docstring(node) or ""
        if not text:
            yield f"{what}: no docstring"
        if isinstance(node, ast.ClassDef):
            continue
        sections = set(re.findall(r"^(\w+)\n-+$", text, re.MULTILINE))
        returns = node.returns is not None and ast.unparse(node.returns) != "None"
        tells = text.startswith(("Return", "Yield")) or not returns
        if "Parameters" in sections and not (sections & {"Returns", "Yields"} or tells):
            yield f"{what}: no Returns section"
        says = "Raises" in sections or node.name.startswith("expect_")
        if "Parameters" in sections and raises(node) and not says:
            yield f"{what}: no Raises section"
        formula = ":math:" in text or ".. math::" in text
        sourced = re.search(
            r"Theory: |^References\n|\b(19|20)\d\d\b", text, re.MULTILINE
        )
        if formula and not sourced:
            yield f"{what}: a formula without a source"


def listed(paths, find):
    """Return what a rule finds, by path, where it finds something."""
    found = {name(path): find(path) for path in paths}
    return {path: faults for path, faults in found.items() if faults}


def test_no_tolerance_is_chosen():
    """Bounds are computed (refspec.rounding)."""
    assert not listed(PYTHON, lambda x: list(tolerances(x)))


def test_a_package_says_what_it_exports_and_a_module_does_not():
    assert not [name(x) for x in MODULES if has_all(x)]


def test_helpers_have_four_lines_of_docstring_at_most():
    """What a package exports has numpydoc; what it does not is read in its place."""
    ours = [x for x in MODULES if x.parent.name != "cli"]
    assert not listed(ours, lambda x: list(long_helpers(x)))


def test_docstrings_say_what_is_returned_and_raised():
    """The docstring of a command is its help: what it returns is its exit status."""
    ours = [x for x in MODULES if x.parent.name != "cli"]
    assert not listed(ours, lambda x: list(faults(x)))


def test_no_path_of_a_machine():
    here = [x for x in ROOT.iterdir() if x.is_file()]
    for part in ("refspec", "tests", "theory", "demos", ".ci"):
        here += (ROOT / part).rglob("*")
    texts = [x for x in here if x.suffix in TEXTS or x.name in ("Makefile", "run")]
    assert not listed(texts, lambda x: SOMEBODYS.findall(x.read_text(encoding="utf-8")))


def test_a_version_is_named_alike_and_has_its_entry():
    version = runpy.run_path(str(ROOT / "refspec" / "_version.py"))["__version__"]
    assert f"\n## {version}," in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_importing_refspec_loads_nothing_heavy():
    code = "import sys, refspec; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {x.split(".")[0] for x in run.stdout.split()}
    assert not loaded & HEAVY
    assert "refspec" in loaded


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("assert x == pytest.approx(1)\n", "approx"),
        ("np.allclose(x, y)\n", "allclose"),
        ("def f(rtol):\n    pass\n", "rtol"),
        ("f(x, atol=1)\n", "atol"),
    ],
)
def test_tolerances_are_found(tmp_path, text, word):
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    assert list(tolerances(path)) == [(word, 1)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f():\n    pass\n", "f: no docstring"),
        (
            'def f(x) -> int:\n    """Do.\n\n    Parameters\n    ----------\n'
            '    x : int\n    """\n',
            "f: no Returns section",
        ),
        (
            'def f(x):\n    """Do.\n\n    Parameters\n    ----------\n'
            '    x : int\n    """\n'
            "    raise ValueError\n",
            "f: no Raises section",
        ),
        (
            'def f():\n    r"""Do :math:`x`."""\n',
            "f: a formula without a source",
        ),
    ],
)
def test_faults_are_found(tmp_path, text, complaint):
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    assert list(faults(path)) == [complaint]
