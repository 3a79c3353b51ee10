"""The page itself: contents poured into a template, every word of them escaped."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from refspec import backend, checks, files, plots
from refspec._version import __version__
from refspec.plots.style import KINDS, SEEN, in_legend
from refspec.report.contents import Contents
from refspec.report.figures import draw_figures
from refspec.structure import KINDS as KIND_OF_LEVEL
from refspec.theorems import all_theorems
from refspec.theorems.places import address, expect_site
from refspec.verify import Record

_SCRIPTS = ("spectrum.js", "tables.js")
_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: What the levels are, said on the page; what they are called is plots' `label`.
LEVELS = {
    "global_mean": "the average of all samples",
    "between_class": "what the samples of a class have in common: its mean",
    "between_cross_class": "what a class has in common with respect to each other "
    "class it could be mistaken for: its cross-class means",
    "within_cross_class": "what differs between samples of the same class",
    "within_class": "what differs between samples of the same class",
    "diagonal": "the gradients at the labels that samples really have, c' = c: near "
    "zero in a network that fits, and collinear with the class means; counted with "
    "them where it has less than a thousandth of the trace",
}


#: What the verdicts of theorems mean.
STATUSES = {
    "holds": "the residual is at most the bound",
    "fails": "the residual exceeds the bound: the export, or refspec, is wrong",
    "unmet": "a hypothesis of the statement is not met here, or what it is about is "
    "not in the export; open it to see which",
    "skipped": "slow, or in need of every eigenvalue where only the largest were asked "
    "for; `refspec verify --only ID` checks it",
    "lemma": "proved, and tested in refspec; there is nothing to check on data",
}

#: A margin from which on a statement is close to failing.
_CLOSE = 0.1


def render(contents: Contents, site: str = "") -> str:
    """Return the report as one HTML page that needs nothing else.

    Parameters
    ----------
    contents : Contents, from `refspec.report.collect`
    site : str
        Where theorems link to their proofs: the web address of a documentation site,
        or the folder that ``make docs`` wrote; without one they name their place.

    Returns
    -------
    str
        Everything that came with the export is escaped.

    Raises
    ------
    ImportError
        If jinja2 or matplotlib is missing.
    ValueError
        If the site is neither.
    """
    advice = "refspec.report.collect makes them"
    checks.expect_type("contents", contents, Contents, advice)
    checks.expect_type("site", site, str, "give the address of a site, or its folder")
    site = expect_site(site) if site else ""
    expect_libraries()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("refspec.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=_number, percent=_percent, powers=_powers, count="{:,}".format
    )
    environment.filters["address"] = lambda place: address(site, place)
    environment.filters["breaks"] = lambda x: Markup(_breaks(str(escape(x))))
    folder = resources.files("refspec.report") / "templates"
    return environment.get_template("page.html").render(
        c=contents,
        levels=LEVELS,
        facts=_facts(contents),
        rows=_rows(contents),
        theorems={x.id: x for x in all_theorems()},
        figures={n: Markup(x) for n, x in draw_figures(contents).items()},
        names={n: _whole(in_legend(n, True)) for n in LEVELS},
        colours=plots.COLOURS,
        kinds=KINDS,
        kind_of=list(KIND_OF_LEVEL.items()),
        statuses=STATUSES,
        seen=SEEN,
        order=_ordered(contents.verdicts),
        spectra=contents.spectra,
        style=Markup((folder / "style.css").read_text("utf-8")),
        scripts=[Markup((folder / x).read_text("utf-8")) for x in _SCRIPTS],
        isfinite=math.isfinite,
    )


def expect_libraries() -> None:
    """Refuse before any work if a library of the page is missing."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "a report needs jinja2; pip install 'refspec[report]'"
        ) from error
    plots.figure()


def write(contents: Contents, path: str | Path, site: str = "") -> Path:
    """Write the report whole or not at all.

    Parameters
    ----------
    contents : Contents, from `refspec.report.collect`
    path : path, of the page
    site : str, as `render` takes it

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        If jinja2 or matplotlib is missing.
    OSError
        If the file cannot be written.
    """
    with files.atomic(path) as file:
        file.write(encoded(render(contents, site)))
    return Path(path)


def encoded(page: str) -> bytes:
    """Return a page's bytes; what a name holds that is no character is spelled out."""
    return page.encode("utf-8", "backslashreplace")


def _facts(contents: Contents) -> dict[str, Any]:
    """Return what the page says of the network and its data."""
    p, weights = _probabilities(contents)
    offsets = contents.moment.offsets
    labels = np.repeat(np.arange(p.shape[1]), np.diff(offsets))
    right = p.argmax(axis=1) == labels
    own = p[np.arange(len(p)), labels]
    sizes = np.diff(offsets)
    source = {} if contents.snapshot is None else dict(contents.snapshot.provenance)
    traces = contents.whole.traces
    total = sum(traces.values()) or 1.0
    versions = source.get("versions")
    return {
        "N": p.shape[0],
        "C": p.shape[1],
        "P": contents.coverage.parameters,
        "layer": "module" if contents.snapshot is None else "layer",
        "recipe": _recipe(source),
        "coverage": contents.coverage,
        "accuracy": float(weights[right].sum() / weights.sum()),
        "loss": float(weights @ -np.log(np.maximum(own, np.finfo(np.float64).tiny))),
        "sizes": (int(sizes.min()), int(sizes.max())),
        "classes": contents.classes,
        "kinds": contents.whole.counts,
        "eigenvalues": sum(contents.whole.counts.values()),
        "shares": {n: traces[n] / total for n in LEVELS if n in traces},
        "source": {
            k: str(source[k])
            for k in ("framework", "loss", "dtype", "schema")
            if source.get(k) is not None
        },
        "architecture": str(source.get("architecture") or ""),
        "digest": str(source.get("digest") or ""),
        "exported": dict(versions) if isinstance(versions, Mapping) else {},
        "versions": {
            "refspec": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "Python": platform.python_version(),
        },
    }


def _recipe(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a planted world, {} of a network."""
    recipe = source.get("recipe")
    planted = str(source.get("framework", "")).startswith("refspec.synthetic")
    return dict(recipe) if planted and isinstance(recipe, Mapping) else {}


def _probabilities(contents: Contents) -> tuple[np.ndarray, np.ndarray]:
    """Return p (N, C) and s (N,); a moment has their products."""
    s = contents.snapshot
    if s is not None:
        given = (backend.to_host(x) for x in (s.probabilities, s.sample_weights))
        p, weights = (np.asarray(x, np.float64) for x in given)
        return p, weights
    w = np.asarray(backend.to_host(contents.moment.weights), np.float64)
    weights = w.sum(axis=1)
    # of a sample that weighs nothing p is not known, and nothing is said of it
    some = np.where(weights > 0, weights, 1.0)[:, None]
    return w / some, weights


def _rows(contents: Contents) -> list[dict[str, Any]]:
    """Return the rows of the table of layers."""
    total = sum(contents.traces.values()) or 1.0
    rows = []
    for name, parameters in contents.parameters.items():
        found = contents.layers.get(name)
        row: dict[str, Any] = {
            "name": name,
            "parameters": parameters,
            "share": contents.traces[name] / total,
            "kinds": {} if found is None else found.counts,
        }
        if contents.snapshot is not None:
            x = contents.snapshot.layer(name)
            row |= {"inputs": x.features.shape[2], "outputs": x.outputs}
            row |= {"positions": x.features.shape[1]}
            row |= {of: contents.profiles[of][name] for of in ("features", "errors")}
        rows.append(row)
    return rows


def _ordered(verdicts: list[Record]) -> dict[str, list[Record]]:
    """Return what failed or comes close, the worst first; then the rest, likewise."""

    def worst(x: Record) -> tuple[bool, float]:
        return x.status == "fails", x.margin if x.margin == x.margin else -1.0

    ranked = sorted(verdicts, key=worst, reverse=True)
    first = [x for x in ranked if x.status == "fails" or x.margin >= _CLOSE]
    return {"first": first, "rest": [x for x in ranked if x not in first]}


def _breaks(text: str) -> str:
    """Return escaped text that may break where long names have their joints.

    Never before a digit: a number is not cut.
    """
    return re.sub(r"(?<=[a-zA-Z0-9])([/._]+)(?=[a-zA-Z])", r"\1<wbr>", text)


def _whole(text: str) -> str:
    """Return a name that holds c' = c, which is not to be torn apart."""
    return text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _powers(text: str) -> str:
    """Return a text with its numbers in powers of ten as `_number` writes them."""

    def written(found: re.Match[str]) -> str:
        return f"{found[1]}{_TIMES}10{str(int(found[2])).translate(_RAISED)}"

    return re.sub(r"(?<![\w.])(-?\d+(?:\.\d+)?)e([-+]\d+)\b", written, text)


def _number(x: float, digits: int = 3) -> str:
    """Return a number for reading."""
    if not math.isfinite(x):
        return "not resolved"
    text = f"{x:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, power = text.split("e")
    return f"{mantissa}{_TIMES}10{str(int(power)).translate(_RAISED)}"


def _percent(x: float) -> str:
    """Return a part as a percentage that is 0 or 100 only if it is."""
    if 0 < x < 0.001:
        return "under 0.1\N{NO-BREAK SPACE}%"
    if 0.999 < x < 1:
        return "over 99.9\N{NO-BREAK SPACE}%"
    return f"{100 * x:.3g}\N{NO-BREAK SPACE}%"
