"""Sphinx: Markdown pages, a tour that runs when the pages are built, and the reference from docstrings."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import commin

project = "CommIN"
author = "The CommIN maintainers"
release = version = commin.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tour", "_tour/index.rst"]
templates_path = ["_templates"]
default_role = "py:obj"

html_theme = "furo"
html_title = "CommIN"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": "tour",
    "gallery_dirs": "_tour",
    "filename_pattern": r"\.py",
    "image_scrapers": ("matplotlib",),
    "image_srcset": ["2x"],
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
}
suppress_warnings = ["config.cache", "ref.python"]  # names of attributes may be those of several classes

QUOTED = re.compile(r"(``.+?``|`[^`]+`)")
MARKUP = re.compile(r"[*|\\]|_(?!\w)")
SHARED = re.compile(r"( +)(\w+(?:, \w+)+): ")


def plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are prose and formulas: of reStructuredText they use quotes and lists alone, the rest is escaped.

    Names that share a line, ``a, b: text``, are kept together; a property's first line is no type.
    """
    for index, line in enumerate(lines):
        parts = QUOTED.split(line)
        parts[::2] = [MARKUP.sub(lambda found: "\\" + found[0], part) for part in parts[::2]]
        lines[index] = SHARED.sub(lambda found: f"{found[1]}{found[2].replace(' ', '')}: ", "".join(parts), count=1)
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]
    if what == "module":
        lines[:] = formulas(lines)


def formulas(lines: list[str]) -> list[str]:
    """The indented lines of a module's docstring as a block of lines, each on its own."""
    made: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented != inside:
            made.append("")
        made.append(f"    | {line.strip()}" if indented else line)
        inside = indented
    return made


def inline_math(translator: Any, node: nodes.math) -> None:
    """A formula in a line as MathML, which browsers draw themselves: pages load nothing from elsewhere."""
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def display_math(translator: Any, node: nodes.math_block) -> None:
    """A formula on its own."""
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Tell Sphinx of the functions above."""
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
