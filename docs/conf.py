"""The configuration of the documentation: ``make docs``."""

import sys
from pathlib import Path

import softhot

sys.path.insert(0, str(Path(__file__).parent))  # for the extensions in pages

project = "softhot"
version = release = softhot.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "pages.blocks",
    "pages.docstrings",
    "pages.formulas",
    "pages.write",
]
root_doc = "index"
exclude_patterns = ["pages"]
default_role = "code"  # text between single backticks
highlight_language = "text"

autodoc_inherit_docstrings = False  # what a method says is said once, where it is first declared
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_use_unqualified_type_names = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# every reference leads somewhere, but for those to other libraries, whose pages are not at hand
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!softhot).*"), ("py:class", r".*\.(Parts|Factor|Eliminated)")]

html_theme = "furo"
html_title = "softhot"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_math_renderer = "mathml"
html_show_copyright = html_show_sphinx = False
html_copy_source = False
