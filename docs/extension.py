"""What the site adds to Sphinx: pages of the API, links into theory/, demos run.

A place in theory/ that a docstring names, and a name in backquotes, become links, as
they stand: docstrings are written to be read in an editor.
"""

import ast
import os
import re
import shutil
from pathlib import Path
from types import ModuleType

from docutils import nodes
from myst_parser.slugs import github_slugify
from sphinx import addnodes
from sphinx.ext.autodoc.mock import mock
from sphinx.util.nodes import make_refnode
from sphinx_gallery.scrapers import figure_rst

import refspec

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"
SHORT = {f"refspec.{x}": f"refspec.exporters.{x}" for x in ("torch", "jax")}
SIGN, JOINED = re.compile(r"(?<=\de)-(?=\d)"), "\N{WORD JOINER}-\N{WORD JOINER}"
PICTURES = ROOT / "out" / "gallery"
PLACE = re.compile(r"theory/(\w+)\.md#([A-Z]\d+)|(?<=, )#([A-Z]\d+)")


def setup(app):
    """Connect what is below to the steps of a build."""
    app.add_role("name", name_role)
    app.add_role("theory", theory_role)
    app.connect("builder-inited", write_api)
    app.connect("source-read", as_page)
    app.connect("source-read", with_title)
    app.connect("autodoc-process-docstring", with_links, priority=400)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": False}


# %% A page a public module


def write_api(app):
    """Write docs/api: a page a public module, and the first one, of all of them."""
    with mock(app.config.autodoc_mock_imports):
        modules = {x.__name__ for x in public(refspec)}
    homes = {f"refspec.{x}" for x in refspec._HOMES.values()}
    homes |= set(SHORT)  # names that are imported when first used
    names = sorted((modules | homes) - {"refspec"})
    at_top = [f"   ~{home(name)}" for name in refspec.__all__ if home(name)]
    pages = {name: [f".. automodule:: {name}", "   :members:"] for name in names}
    pages["refspec"] = [
        ".. automodule:: refspec",
        "",
        "At the top level",
        "----------------",
        "",
        *("Each is imported from where it is defined: ``refspec.NAME``.", ""),
        *(".. currentmodule:: None", "", ".. autosummary::", "", *at_top, ""),
        *("Modules", "-------", ""),
        *(".. toctree::", "   :maxdepth: 1", ""),
        *(f"   {name}" for name in names),
    ]
    shutil.rmtree(API, ignore_errors=True)
    API.mkdir()
    for name, lines in pages.items():
        head = [name if name != "refspec" else "API reference", "=" * 60, ""]
        (API / f"{name}.rst").write_text("\n".join([*head, *lines, ""]))


def public(module):
    """Yield a module and the modules that it exports, and theirs."""
    yield module
    for name in getattr(module, "__all__", ()):
        if isinstance(inner := getattr(module, name), ModuleType):
            yield from public(inner)


def home(name):
    """Return where the API pages have a name of the top level, None for a module."""
    module, _, last = name.rpartition(".")
    if module in SHORT:
        return f"{SHORT[module]}.{last}"
    within = refspec._HOMES.get(name.removeprefix("refspec."))
    return within and f"refspec.{within}.{last}"


# %% Links


def anchor(title):
    """Return the anchor of a heading: K9 of `K9. Title`, or what GitHub makes."""
    found = re.match(r"([A-Z]\d*)\. ", title)
    return found[1] if found else github_slugify(title)


def as_page(_app, docname, source):
    """Leave out anchors that a forge needs, headings having theirs; list the pages.

    A number in a table, 2e-13, is not to be broken at its sign: word joiners say so.
    """
    source[0] = re.sub(r"(?m)^\|.*\|$", lambda x: SIGN.sub(JOINED, x[0]), source[0])
    if docname.startswith("theory/"):
        source[0] = re.sub(r'(?m)^<a id="\w+"></a>\n', "", source[0])
    if docname == "theory/README":
        pages = sorted(x.stem for x in (ROOT / "theory").glob("[a-z]*.md"))
        listed = [x for x in pages if x not in ("claims", "corruptions")]
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *listed, "```", ""])


def with_links(_app, _what, _name, _object, _options, lines):
    """Make links of the places that a docstring names: theory/levels.md#L1, #L2."""
    page = None

    def role(found):
        nonlocal page
        page = found[1] or page
        return f":theory:`{page} {found[2] or found[3]} {found[0]}`"

    lines[:] = [PLACE.sub(role, line) for line in lines]


def theory_role(_name, rawtext, text, _line, inliner, _options=None, _content=None):
    """Refer to a place in theory/: page, id, and what is shown."""
    page, id, shown = text.split()
    doc = inliner.document.settings.env.docname
    about = {"reftype": "theory", "reftarget": f"theory/{page}", "id": id}
    code = nodes.literal(rawtext, shown)
    return [addnodes.pending_xref(rawtext, code, refdoc=doc, **about)], []


def name_role(_name, rawtext, text, _line, inliner, _options=None, _content=None):
    """Refer to what a name in backquotes names, if there is such a thing."""
    env = inliner.document.settings.env
    about = {"refdomain": "py", "reftype": "obj", "reftarget": text.removesuffix("()")}
    for scope in ("py:module", "py:class"):
        about[scope] = env.ref_context.get(scope)
    code = nodes.literal(rawtext, text)
    link = addnodes.pending_xref(rawtext, code, refdoc=env.docname, **about, maybe=True)
    return [link], []


def resolve(app, env, node, shown):
    """Lead to a place of theory/, or from the top level to a name's home."""
    target = node["reftarget"]
    if node["reftype"] == "theory":
        if node["id"] in env.metadata[target].get("myst_slugs", ()):
            return make_refnode(app.builder, node["refdoc"], target, node["id"], shown)
        return None
    if not node.get("maybe"):
        return None
    found = env.domains["py"].objects.get(home(target))
    if found is None:
        return shown  # code, and no link
    return make_refnode(app.builder, node["refdoc"], found[0], found[1], shown)


# %% Demos, run as the tests run them: in seconds, unless GALLERY=full


def arguments(_gallery, variables):
    """Return what a demo is called with: it puts its picture where `pictures` looks."""
    file = Path(variables["src_file"])
    doc = ast.get_docstring(ast.parse(file.read_text("utf-8")))
    variables["example_globals"].update(__file__=str(file), __doc__=doc)
    if file.stem.startswith("howto"):
        return []
    quick = [] if os.environ.get("GALLERY") == "full" else ["--quick"]
    return [*quick, "--plot", str(PICTURES)]


def pictures(_block, variables, gallery):
    """Show what a demo has drawn, below the cell that saved it."""
    name = Path(variables["src_file"]).stem
    made = PICTURES / f"{name}.png"
    if not made.exists():
        return ""
    path = next(variables["image_path_iterator"])
    shutil.move(made, path)
    return figure_rst([path], gallery["src_dir"], f"What {name}.py draws")


def with_title(_app, docname, source):
    """Make a title of the claim that a demo begins with, and links of its places."""
    if docname.startswith("docs/gallery/"):
        lines = source[0].split("\n")
        told = [k for k, line in enumerate(lines) if line and not line[0].isspace()]
        text = [lines[k] for k in told]
        with_links(None, None, None, None, None, text)
        for k, line in zip(told, text, strict=True):
            lines[k] = line
        source[0] = "\n".join(lines)
        claim = r"(?<=\.py:\n\n)(.+)\.\n"
        source[0] = re.sub(claim, lambda x: f"{x[1]}\n{'=' * len(x[1])}\n", source[0])
