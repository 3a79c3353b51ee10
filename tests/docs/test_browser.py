"""The built site in a real browser: wide and narrow, offline, typeset, accessible."""

import pathlib
from urllib.parse import urlsplit

import pytest

from support.chromium import LOGS, inaccessible, requested, started, width

SITE = pathlib.Path(__file__).parents[2] / "out" / "docs"
PAGES = [
    *("docs/index", "README", "docs/howto/index", "docs/howto/report", "docs/evidence"),
    *(
        "docs/gallery/index",
        "docs/gallery/knockouts",
        "docs/gallery/howto_test_your_kfac",
    ),
    *("theory/README", "theory/levels", "theory/kronecker", "theory/hessian"),
    *("theory/certificates", "theory/expectations", "theory/claims"),
    *("docs/api/refspec", "docs/api/refspec.curvature", "docs/api/refspec.exporters"),
    *("tests/conformance/table", "tests/frameworks/exports", "CHANGELOG", "search"),
]
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
    formulas, wrong = chromium.execute_async_script(TYPESET)
    assert wrong == 0
    assert (
        formulas or not name.startswith("theory/") or "claims" in name or "RE" in name
    )
    across = chromium.execute_script("return document.documentElement.scrollWidth")
    assert across <= pixels, chromium.execute_script(WIDE)
    assert not inaccessible(chromium)
    assert not chromium.get_log(LOGS[0])
    for place in requested(chromium):
        assert urlsplit(place).scheme in ("file", "data", "blob"), place
