"""The built site in a real browser: wide and narrow, offline, typeset, accessible."""

import pathlib
from urllib.parse import urlsplit

import pytest

from support.chromium import LOGS, inaccessible, requested, started, width

SITE = pathlib.Path(__file__).parents[2] / "out" / "docs"
PAGES = [
    *("docs/index", "docs/evidence", "docs/howto/index", "docs/howto/report"),
    *("docs/gallery/index", "docs/gallery/knockouts"),
    *("docs/gallery/howto_test_your_kfac", "README", "CHANGELOG", "search"),
    *("theory/README", "theory/levels", "theory/kronecker", "theory/hessian"),
    *("theory/certificates", "theory/expectations", "theory/claims"),
    *("docs/api/refspec", "docs/api/refspec.curvature", "docs/api/refspec.exporters"),
    *("tests/conformance/table", "tests/frameworks/exports"),
]
PLAIN = ("theory/README", "theory/claims")  # no formulas
BAD = ("javascript", "network", "security")  # what is only said is no error
TYPESET = "const done = arguments[arguments.length - 1];" + (
    "if (!window.MathJax) done([0, 0]); else MathJax.startup.promise.then(() => done("
    "['mjx-container', 'mjx-merror'].map(x => document.querySelectorAll(x).length)))"
)
WIDE = """
return [...document.querySelectorAll('main *')].filter(x => {
    const box = x.getBoundingClientRect();
    for (let up = x; up; up = up.parentElement)
        if (getComputedStyle(up).overflowX !== 'visible') return false;
    return box.width && box.right > document.documentElement.clientWidth + 1;
}).slice(0, 3).map(x => x.outerHTML.slice(0, 150))
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("pixels", [1280, 360])
@pytest.mark.parametrize("name", PAGES)
def test_page(chromium, name, pixels):
    for kind in LOGS:
        chromium.get_log(kind)
    width(chromium, pixels, mobile=pixels < 600)
    chromium.get((SITE / f"{name}.html").as_uri())
    expected = name.startswith("theory/") and name not in PLAIN
    formulas, wrong = chromium.execute_async_script(TYPESET)
    across = chromium.execute_script("return document.documentElement.scrollWidth")
    errors = [x["message"] for x in chromium.get_log(LOGS[0]) if x["source"] in BAD]
    asked = {urlsplit(x).scheme for x in requested(chromium)}
    faults = {
        "formulas": wrong or (expected and not formulas),
        "wider than the screen": across > pixels and chromium.execute_script(WIDE),
        "accessibility": inaccessible(chromium),
        "errors": errors,
        "asked of elsewhere": asked - {"file", "data", "blob", "chrome"},
    }
    assert not {k: v for k, v in faults.items() if v}
