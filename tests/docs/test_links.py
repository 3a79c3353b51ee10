"""Every link of the built site leads somewhere, and no page needs the network."""

import functools
import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

SITE = pathlib.Path(__file__).parents[2] / "out" / "docs"
PAGES = sorted(x for x in SITE.rglob("*.html") if "_static" not in x.parts)
VERBATIM = {"pre", "code", "script", "style"}
LOADED = {"img", "script", "link", "iframe", "source", "video", "audio", "embed"}


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = {""}, [], []
        self.open, self.words = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        formula = "math" in (given.get("class") or "").split()
        self.open.append((tag, formula or tag in VERBATIM))
        self.anchors |= {given[x] for x in ("id", "name") if given.get(x)}
        for name in ("href", "src"):
            if given.get(name):
                (self.loads if tag in LOADED else self.links).append(given[name])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass  # elements that need no end

    def handle_data(self, data):
        if not any(verbatim for _, verbatim in self.open):
            self.words.append(data)


parsed = functools.cache(Page)


def missing(path, place):
    """Return a place that a page of the site names and that is not there, or None."""
    at = urlsplit(place)
    if at.scheme in ("http", "https", "mailto", "data"):
        return None
    target = (path.parent / unquote(at.path)).resolve() if at.path else path
    there = target.is_file() and (
        target.suffix != ".html" or unquote(at.fragment) in parsed(target).anchors
    )
    return None if there else f"{path.relative_to(SITE)}: {place}"


def test_the_site_is_built():
    names = {str(x.relative_to(SITE)) for x in PAGES}
    assert {"index.html", "README.html", "theory/levels.html"} <= names, "make docs"
    assert "K9" in parsed(SITE / "theory" / "kronecker.html").anchors


def test_every_link_leads_somewhere():
    found = [missing(x, y) for x in PAGES for y in parsed(x).links + parsed(x).loads]
    assert len(found) > 1000
    assert not [x for x in found if x]


def test_no_formula_is_left_as_it_was_typed():
    pages = [x for x in PAGES if parsed(x).words]
    assert len(pages) > 100
    typed = {x.name: [w for w in parsed(x).words if "$" in w] for x in pages}
    assert not {name: words for name, words in typed.items() if words}


def test_nothing_is_loaded_from_elsewhere():
    for page in PAGES:
        for place in parsed(page).loads:
            assert urlsplit(place).scheme in ("", "data"), (page.name, place)
    for style in SITE.rglob("*.css"):
        for place in re.findall(r"url\(([^)]*)\)", style.read_text("utf-8")):
            assert urlsplit(place.strip("'\"")).scheme in ("", "data"), (style, place)


def test_docstrings_lead_into_theory():
    page = parsed(SITE / "docs" / "api" / "refspec.structure.html")
    assert "../../theory/levels.html#L1" in page.links
