"""Where a proof can be read: its place in theory/, as an address of the site.

The site (`make docs`) has no public address of its own: who builds or serves one says
where it is, or the package does, by a project URL called Documentation.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from urllib.parse import quote, urlsplit

from refspec.text import visible


def address(site: str, place: str) -> str:
    """Return where a place is on a site, '' without a site or a place.

    >>> address("https://example.org/docs/", "theory/levels.md#L1")
    'https://example.org/docs/theory/levels.html#L1'
    """
    page = place.replace(".md#", ".html#")
    return f"{site.rstrip('/')}/{page}" if site and place else ""


def expect_site(given: str) -> str:
    """Return the address of a site: one of the web, or a folder that was built."""
    if urlsplit(given).scheme in ("http", "https", "file"):
        return quote(given, safe=":/?&=#%~@+")
    folder = Path(given)
    if not (folder / "theory" / "README.html").is_file():
        raise ValueError(
            "the site must be a web address, http or https, or a folder that holds "
            f"theory/README.html, got {visible(given, 80)!r}; `make docs` writes "
            "out/docs"
        )
    return folder.resolve().as_uri()


def published() -> str:
    """Return the address of the documentation that the package states, or ''."""
    try:
        stated = metadata.metadata("refspec").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""
    named: dict[str, str] = dict(x.split(", ", 1) for x in stated)
    return named.get("Documentation", "")
