"""A hook of mkdocs: pages of the site that are files of the project elsewhere."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PROJECT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "cluster/README.md": "cluster.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Markdown files by their paths in the project, each with its page on the site."""

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; called by mkdocs."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (PROJECT / source).read_text()
        files.append(File.generated(config, page, content=with_site_links(text, source)))
    return files


def with_site_links(text: str, source: str) -> str:
    """Return a page's text with links as they are on the site.

    source: the page's path in the project. A link to a file that the site does not have becomes
    its text.
    """
    folder = posixpath.dirname(source)

    def link(match: re.Match[str]) -> str:
        image, shown, path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return shown
        return f"{image}[{shown}]({target}{anchor or ''})"

    return _LINK.sub(link, text)
