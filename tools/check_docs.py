"""check_docs.py FOLDER: whether every link in the built documentation leads to a page and an anchor that are there, and
whether nothing that a page shows or runs comes from the network. Exit status 1, with the reasons, where not.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, by element; everything else that has a URL is a link to follow.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
# Links of a <link> that nothing is fetched for.
NOT_FETCHED = {"canonical", "index", "search", "next", "prev", "author", "copyright"}


class Page(HTMLParser):
    """A page's anchors, its links, and what it has fetched."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in FETCHED and FETCHED[tag] in given:
            quiet = tag == "link" and given.get("rel") in NOT_FETCHED
            (self.links if quiet else self.fetched).append(given[FETCHED[tag]])


def problems(folder: Path) -> list[str]:
    """What is wrong with the pages in *folder*, in words."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    found = [f"{folder} has no page"] if not pages else []
    for path, page in pages.items():
        where = path.relative_to(folder.resolve())
        found += [f"{where} fetches {each} from the network" for each in page.fetched if _is_remote(each)]
        for link in [*page.links, *(each for each in page.fetched if not _is_remote(each))]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{where}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: {link} has no such anchor")
    for style in sorted(folder.rglob("*.css")):
        remote = re.findall(r"(?:@import\s+|url\()[\"']?((?:https?:)?//[^\"')\s]+)", style.read_text("utf-8"))
        found += [f"{style.relative_to(folder)} fetches {each} from the network" for each in remote]
    return found


def _is_remote(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong), end="\n" if wrong else "")
    sys.exit(1 if wrong else 0)
