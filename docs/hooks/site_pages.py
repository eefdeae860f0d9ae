"""MkDocs hook: adds the pages that are made from the root's documents and from the code."""

import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from docs.hooks import layers, reference  # noqa: E402

# Documents of the repository's root, by their page.
ROOT_PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
LAYERS_MARK = "<!-- picture of the layers -->"


def on_files(files, config):
    """Adds the generated pages to those in ``docs/``."""
    made = {page: _root_page(ROOT / source) for page, source in ROOT_PAGES.items()}
    made |= reference.pages()
    made["CITATION.cff"] = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown, **_):
    """Puts the picture of the layers into its page."""
    return markdown.replace(LAYERS_MARK, layers.picture())


def _root_page(path):
    """A document of the root with its links as seen from ``docs/``."""
    pages = {source: page for page, source in ROOT_PAGES.items()}

    def link(match):
        target, anchor = match[1], match[2] or ""
        return f"]({pages.get(target, target.removeprefix('docs/'))}{anchor})"

    return re.sub(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)", link, path.read_text("utf-8"))
