"""What a person sees of a page: its texts without tags, styles and drawings."""

from __future__ import annotations

import re
from html import unescape

UNSEEN = re.compile(r"<(head|style|svg)\b.*?</\1>", re.DOTALL)
ENDS = (
    (r"\s+", " "),
    (r"</dt>", ": "),
    (r"</div> <div class", " — <div class"),
    (r"</t[hd]>", " | "),
    (r"</(p|li|dd|h\d|tr|caption|summary|pre|section)>", "\n"),
    (r"<[^>]+>", ""),
)


def visible(shown: str) -> str:
    """Return the visible text of a piece of HTML, a line for each paragraph, list item or row of a table."""
    shown = UNSEEN.sub("", shown)
    for pattern, instead in ENDS:
        shown = re.sub(pattern, instead, shown)
    lines = (" ".join(line.split()) for line in unescape(shown).splitlines())
    return "\n".join(line for line in lines if line)


def parts(page: str, name: str) -> list[str]:
    """Return the HTML of the elements of a class, which hold no other element of their own kind."""
    return [found[1] for found in re.findall(rf'<(\w+) class="{name}\b[^"]*"[^>]*>(.*?)</\1>', page, re.DOTALL)]


def seen(page: str, *names: str) -> str:
    """Return the visible text of the elements of some classes."""
    return "\n".join(visible(part) for name in names for part in parts(page, name))


def headings(page: str) -> list[str]:
    """Return the headings of the second level."""
    return [visible(heading) for heading in re.findall(r"<h2>(.*?)</h2>", page)]


def details(page: str) -> list[str]:
    """Return the visible text of what is folded."""
    return [visible(part) for part in re.findall(r"<details.*?</details>", page, re.DOTALL)]


def state(page: str) -> str:
    """Return the state that colours the verdict: good, warning, bad or doubtful."""
    (found,) = re.findall(r'<section class="verdict (\w+)"', page)
    return str(found)


def order(page: str) -> list[str]:
    """Return the classes of the elements of a page that stand for its sections, each run of the same as one."""
    found = re.findall(r'class="(verdict|advice|health|bar)\b|<(figure|details)\b', page)
    names = [first or second for first, second in found]
    return [name for name, former in zip(names, ["", *names], strict=False) if name != former]
