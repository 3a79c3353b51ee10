"""Settings of the site: README, theory/, demos/, tables of tests/ and docstrings.

The source folder is the repository (`sphinx-build -c docs . out/docs`), so that a link
from page to page is the same on a forge, in an editor and here, and no text is copied.
`docs/api` and `docs/gallery` are written anew by every build.
"""

import sys
from pathlib import Path

import refspec

sys.path.insert(0, str(Path(__file__).parent))

# %% What is read

project = "refspec"
author = "The refspec authors"
copyright = f"2026, {author}"
version = release = refspec.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "README.md",
    "demos/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "theory/*.md",
    "tests/**/*.md",
]
exclude_patterns = [".*", "**/__pycache__", "out", "build", "dist", "*.egg-info"]
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "extension",
]
nitpicky = True
suppress_warnings = ["toc.not_included"]  # a table that only the README links to
nitpick_ignore = [("py:class", "collections.abc.Callable")]  # Python's, of an alias

# %% Markdown: the anchor of a statement is its id, of any other heading GitHub's

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True  # $$ within a paragraph, as a forge reads it
myst_heading_anchors = 3
myst_heading_slug_func = "extension.anchor"

# %% Docstrings

autosummary_generate = False
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["cupy", "distributed", "jax", "onnx", "onnxruntime", "torch"]
default_role = "name"

# %% Demos, run as the tests run them: quickly, unless GALLERY=full

sphinx_gallery_conf = {
    "examples_dirs": "demos",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": r"/(?!howto_test_your_(kfac|slq))\w+\.py$",
    "ignore_pattern": r"(^|/)(gallery|setting|second_order)\.py$",
    "reset_argv": "extension.arguments",
    "image_scrapers": ("extension.pictures",),
    "download_all_examples": False,
    "min_reported_time": 10**6,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "default_thumb_file": str(Path(__file__).parents[1] / "demos/pictures/pattern.png"),
}

# %% The pages

html_theme = "pydata_sphinx_theme"
html_title = "refspec"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_additional_pages = {"index": "index.html"}
html_sidebars = {page: [] for page in ("README", "CHANGELOG", "CONTRIBUTING")}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
templates_path = ["."]
