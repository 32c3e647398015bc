"""Colors of reports by name, in light and dark: the same names in style sheets and charts."""

from __future__ import annotations

import re

TOKENS: dict[str, tuple[str, str]] = {
    "bg": ("#ffffff", "#0f1216"),
    "sunken": ("#f6f7f9", "#161a20"),
    "ink": ("#15181e", "#eaedf2"),
    "ink2": ("#434a57", "#b8bfcb"),
    "ink3": ("#626a79", "#8e97a6"),
    "line": ("#e4e7ec", "#262c35"),
    "line2": ("#c9cfd8", "#3b4451"),
    "violation": ("#a81b14", "#ff7f70"),
    "violation-tint": ("#fdf0ee", "#2a1715"),
    "warning": ("#8a5300", "#f2c063"),
    "warning-tint": ("#fcf4e6", "#261e10"),
    "warningmark": ("#c97d00", "#f2c063"),
    "info": ("#1f5aa8", "#82b4f6"),
    "doubt": ("#6a3ab2", "#c6a5ff"),
    "ok": ("#2a6b46", "#7fca9d"),
    "ref": ("#cbd2dc", "#3c4655"),
    "refline": ("#7d8899", "#7c8798"),
    "live": ("#123f73", "#93c4ff"),
    "rise": ("#b5480a", "#f28c4c"),
    "fall": ("#2566ad", "#6fadf3"),
    "band": ("#e6eaf0", "#232a34"),
    "grid": ("#eceff3", "#20262f"),
    "ramp1": ("#3f9ea6", "#3f7f9c"),
    "ramp2": ("#4f8ecb", "#5f8fd6"),
    "ramp3": ("#6a6fc9", "#9a92f0"),
    "ramp4": ("#7a45ad", "#e0a3d8"),
    "ramp5": ("#5a1766", "#ffd98a"),
    "heat0": ("#f1f3f6", "#181d24"),
    "rose1": ("#fbe3d2", "#4d2c18"),
    "rose2": ("#f3b58b", "#7f4822"),
    "rose3": ("#d9742f", "#c56d2e"),
    "rose4": ("#9c3a04", "#ffb480"),
    "fell1": ("#dbe8f6", "#1f3c5e"),
    "fell2": ("#a9c9ec", "#2d5a90"),
    "fell3": ("#5f98d6", "#4a86c9"),
    "fell4": ("#2566ad", "#8cc0fa"),
}
"""Light and dark color of each name."""
COLOR = re.compile(r"#[0-9a-f]{6}\b")
NAMES = {light: name for name, (light, _) in reversed(TOKENS.items())}
"""Name of each light color; the first one if several names have the same color."""


def themed(svg: str) -> str:
    """Return a chart in which light colors are variables of the style sheet; other colors stay.

    >>> themed('<rect fill="#15181e" stroke="#123456"/>')
    '<rect fill="var(--ink)" stroke="#123456"/>'
    """
    return COLOR.sub(lambda color: f"var(--{NAMES[color[0]]})" if color[0] in NAMES else color[0], svg)
