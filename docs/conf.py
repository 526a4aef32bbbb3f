"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the order of the gallery

from sphinx_gallery.sorting import ExplicitOrder

import xray_harmonize

os.environ.setdefault("MPLBACKEND", "Agg")

project = "xray_harmonize"
author = copyright = "the xray_harmonize developers"
version = release = xray_harmonize.__version__
html_title = f"xray_harmonize {release}"
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["build", "_templates", "sg_execution_times.rst"]

autosummary_generate = True
# Written by scikit-learn, about its own pages.
autodoc_default_options = {
    "exclude-members": ", ".join(
        ["get_metadata_routing", "get_params", "set_params", "set_output"]
        + [f"set_{method}_request" for method in ("fit", "partial_fit", "transform", "predict", "score", "split")]
    )
}
autodoc_typehints = "none"  # numpydoc tells types, shapes and units
numpydoc_show_class_members = False
numpydoc_validation_checks: set[str] = set()

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "gallery_order.ReadingOrder",
    "subsection_order": ExplicitOrder(["*"]),
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "min_reported_time": 1,
    "show_memory": False,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    # Pages with wide tables need the room.
    "secondary_sidebar_items": {
        "guide/*": ["page-toc"],
        "methods/*": ["page-toc"],
        "generated/*": ["page-toc"],
        "api": ["page-toc"],
        "index": [],
        "gdce_study": [],
        "systems": [],
        "gallery/*": [],
        "guide/which_harmonizer": [],
        "guide/archives": [],
        "guide/new_harmonizer": [],
        "methods/index": [],
    },
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
templates_path = ["_templates"]
highlight_language = "none"  # shell, unless a block says what it is
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False
