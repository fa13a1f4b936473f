"""Links and pictures that leave `docs/`: on a page they are written for readers of the repository, `../bpexp/core/network.py`.

A picture is copied into the site.  Any other link becomes one into the repository, where `repo_url` says where that is, and else the file's name.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>\.\./[^)\s#]*)(?P<anchor>#[^)\s]*)?(?P<title> "[^"]*")?\)')
COPIES = "repository"  # folder of the site that holds the pictures


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with every link that leaves `docs/` rewritten, but in its code."""
    found, end = [], 0
    for fence in FENCE.finditer(markdown):
        found += [_rewritten(markdown[end : fence.start()], page, config, files), fence.group()]
        end = fence.end()
    return "".join([*found, _rewritten(markdown[end:], page, config, files)])


def _rewritten(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    root = Path(config.docs_dir).parent

    def link(found: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), found["target"]))
        if place.startswith("docs/") or (found["title"] or "").startswith(' "code'):  # a page; an inclusion (`sources.py`)
            return found.group()
        if not (root / place).exists():
            raise PluginError(f"{page.file.src_uri}: {found['target']} is not there")
        if found["image"]:
            return f"![{found['text']}]({_copied(place, root, page, config, files)}{found['title'] or ''})"
        if config.repo_url:
            return f"[{found['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{place}{found['anchor'] or ''})"
        return found["text"] if place in found["text"] else f"{found['text']} (`{place}`)"

    return LINK.sub(link, text)


def _copied(place: str, root: Path, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The address, seen from the page's source, of a picture that the site gets a copy of."""
    name = f"{COPIES}/{place}"
    if files.get_file_from_path(name) is None:
        files.append(File.generated(config, name, abs_src_path=str(root / place)))
    return posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or ".")
