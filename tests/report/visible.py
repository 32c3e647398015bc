"""Visible text of a page: strings without tags, styles and charts."""

from __future__ import annotations

import re
from html import unescape

INVISIBLE = re.compile(r"<(head|style|script|svg)\b.*?</\1>", re.DOTALL)
REPLACEMENTS = (
    (r"\s+", " "),
    (r"</dt>", ": "),
    (r"</div> <div class", " — <div class"),
    (r"</t[hd]>", " | "),
    (r"</(p|li|dd|h\d|tr|caption|summary|pre|section)>", "\n"),
    (r"<[^>]+>", ""),
)


def visible(html: str) -> str:
    """Return the visible text of HTML, with a line for each paragraph, list item and table row."""
    html = INVISIBLE.sub("", html)
    for pattern, replacement in REPLACEMENTS:
        html = re.sub(pattern, replacement, html)
    lines = (" ".join(line.split()) for line in unescape(html).splitlines())
    return "\n".join(line for line in lines if line)


def elements(page: str, name: str) -> list[str]:
    """Return the inner HTML of the elements of a class; they must not contain elements with the same tag."""
    return [match[1] for match in re.findall(rf'<(\w+) class="{name}\b[^"]*"[^>]*>(.*?)</\1>', page, re.DOTALL)]


def text_of(page: str, *names: str) -> str:
    """Return the visible text of the elements of some classes."""
    return "\n".join(visible(element) for name in names for element in elements(page, name))


def headings(page: str) -> list[str]:
    """Return the headings of the second level."""
    return [visible(heading) for heading in re.findall(r"<h2>(.*?)</h2>", page)]


def details(page: str) -> list[str]:
    """Return the visible text of the folded elements."""
    return [visible(element) for element in re.findall(r"<details.*?</details>", page, re.DOTALL)]


def verdict_state(page: str) -> str:
    """Return the mark of the verdict, such as violation or doubt."""
    (name,) = re.findall(r'<section class="verdict (\w+)"', page)
    return str(name)


def order(page: str) -> list[str]:
    """Return the kinds of elements on a page in their order, without repetitions."""
    headings = (
        r"<h2>(?:(Top changes)|(Inputs and outputs)|(Attributions)|(Most changed records)|(Timeline)|(Segments)"
        "|(Appendix))"
    )
    matches = re.findall(rf'class="(verdict|advice|families|health)\b|{headings}', page)
    names = [next(filter(None, groups)) for groups in matches]
    return [name for name, previous in zip(names, ["", *names], strict=False) if name != previous]


def numbers(page: str) -> set[str]:
    """Return the numbers that fill a table cell."""
    return set(re.findall(r"<td(?: data-head=\"[^\"]*\")?>([-\u2212+]?\d[\d.e%-]*)</td>", page))
