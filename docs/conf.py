"""Sphinx: the pages of this folder, and the API reference from the docstrings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import qdmerge

project = "qdmerge"
author = copyright = "The qdmerge developers"
version = release = qdmerge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "qdmerge"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
nitpicky = True
# Types of other libraries, and parameters' types as docstrings and annotations abbreviate them.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!qdmerge).*"),
    (r"py:.*", r".*\.(_\w+|Annotated)(\..*)?"),
]

PAGES = Path(__file__).parent / "api"
MODULES = [
    m for page in PAGES.glob("*.md") for m in re.findall(r"automodule:: (\S+)", page.read_text())
]
"""Modules whose public names the reference documents."""


def _public_places() -> dict[str, str]:
    """Return where public objects are defined, to the public name that documents them."""
    places = {}
    for package in MODULES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            home = getattr(found, "__module__", None)
            if isinstance(home, str):
                places[f"{home}.{getattr(found, '__qualname__', name)}"] = f"{package}.{name}"
    return places


def _to_public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve a reference to a private module, as annotations hold them, by its public name."""
    target = node.get("reftarget", "")
    places = app.public_places
    for private in (target, target.rpartition(".")[0]):
        if private in places:
            public = target.replace(private, places[private], 1)
            domain = env.get_domain("py")
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, node["reftype"], public, node, content
            )
    return None


def setup(app: Any) -> None:
    """Connect the resolver of private names."""
    app.public_places = _public_places()
    app.connect("missing-reference", _to_public_name)
