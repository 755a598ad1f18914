"""How the documentation is built: ``make docs``. Nothing is fetched, neither here nor by who reads the pages."""

from __future__ import annotations

import argparse
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "pjfail"
author = "the authors of pjfail"
copyright = "the authors of pjfail, GPL-2.0-or-later"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
nitpicky = True
# The standard library's names are shown, and lead nowhere: their pages are on the network.
nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|collections|concurrent|enum|logging|pathlib|random|re|ssl|time|types|typing)\..*"),
    ("py:.*", r"(bool|bytes|float|int|object|str|type|None|Path|ModuleType|TracebackType|Random)"),
    ("py:.*", r"(TypeError|ValueError|RuntimeError|OSError|ImportError|Exception|BaseException)"),
    ("py:.*", r"prometheus_client\..*"),
    ("py:class", r"pjfail\.follow_settings\.Changes"),  # the settings of Follow, as keywords
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    "Backoff": "pjfail.policy.Backoff",
    "Decide": "pjfail.retry.Decide",
    "Detect": "pjfail.detection.Detect",
    "Event": "pjfail.events.Event",
    "Family": "pjfail.model.Family",
    "Headers": "pjfail.request.Headers",
    "Listed": "pjfail.lookup.static.Listed",
    "Listener": "pjfail.events.Listener",
    "Order": "pjfail.order.Order",
    "Ordered": "pjfail.order.Ordered",
    "TellStale": "pjfail.lookup.protocol.TellStale",
    "Transport": "pjfail.model.Transport",
}
python_use_unqualified_type_names = True
maximum_signature_line_length = 100

html_theme = "furo"
html_title = "pjfail"
html_static_path = ["static"]
html_css_files = ["pjfail.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def _public_name(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Node | None:
    """Links ``pjfail.model.Server``, as type hints have it, to ``pjfail.Server``, as it is called."""
    if node.get("refdomain") != "py":
        return None
    name, kind = node["reftarget"], node["reftype"]
    if kind == "attr":  # a field of a value is told of with its class
        name, kind = name.rpartition(".")[0], "class"
    public = re.sub(r"^pjfail\.\w+\.", "pjfail.", name)
    domain = environment.get_domain("py")
    for called in (name, public, f"pjfail.{name}", f"pjfail.lookup.{name}"):
        found = domain.resolve_xref(environment, node["refdoc"], app.builder, kind, called, node, shown)
        if found is not None:
            return found
    return None


def _readable(_: Sphinx, *told: Any) -> tuple[str | None, str | None]:
    """A signature's aliases, functions and factories as people write them."""
    written = (
        (r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1"),
        (r"<function (\w+)>", r"\1"),
        ("<factory>", "..."),
    )
    signature, returns = told[-2:]
    for what, so in written:
        signature, returns = (each and re.sub(what, so, each) for each in (signature, returns))
    return signature, returns


class Help(Directive):
    """``.. help:: lookup``: what ``python -m pjfail lookup --help`` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from pjfail.cli.main import make_parser

        (commands,) = (each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction))
        parser = commands.choices[self.arguments[0]]
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=96)
        text = parser.format_help()
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("help", Help)
    app.connect("autodoc-process-signature", _readable)
    app.connect("missing-reference", _public_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
