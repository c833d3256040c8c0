"""Hooks of MkDocs: links from a page to source files, which the site does not hold, become their names, and so do the
roles of docstrings.

A file that is not there ends the build, as a broken link does.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
ROLE = re.compile(r":(?:mod|class|func|data|meth|attr|exc):\s*(?=<code>)")
"""What Sphinx reads before a name."""
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")
"""A link that leaves the folder of the documents."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of a page with such links replaced. Raises FileNotFoundError for one that leads nowhere."""

    def named(link: re.Match[str]) -> str:
        words, target = link.groups()
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{target}, which a page links to, is not there")
        return words if words.startswith("`") else f"{words} (`{target}`)"

    return OUTSIDE.sub(named, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """The page without what stands before the names in docstrings."""
    return ROLE.sub("", html)
