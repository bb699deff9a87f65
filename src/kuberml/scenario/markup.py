"""Small pieces of HTML, every text escaped. What comes out of a function here is safe to put into a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Safe(str):
    """Markup that is already escaped."""

    __slots__ = ()


def esc(text: object) -> Safe:
    """A text as markup; markup stays what it is."""
    return text if isinstance(text, Safe) else Safe(html.escape(str(text), quote=True))


def join(parts: Iterable[object], between: str = "") -> Safe:
    """Markup of all parts in a row."""
    return Safe(between.join(esc(part) for part in parts))


def tag(name: str, *inside: object, **attributes: object) -> Safe:
    """An element. `css` is the class; `_` in a name becomes `-`."""
    written = "".join(
        f' {"class" if key == "css" else key.replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
    )
    return Safe(f"<{name}{written}>{join(inside)}</{name}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], css: str = "") -> Safe:
    """A table that scrolls sideways on a narrow screen; the first column names the row."""
    top = tag("tr", *(_heading(cell) for cell in head))
    body = [tag("tr", tag("th", row[0], scope="row"), *(cell_of(cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", tag("thead", top), tag("tbody", *body), css=css), css="scroll")


def words(text: object) -> Safe:
    """A cell of running text: to the left, on several lines."""
    return tag("td", text, css="words")


def words_heading(text: object) -> Safe:
    """The heading of a column of running text."""
    return tag("th", text, scope="col", css="words")


def cell_of(cell: object) -> Safe:
    """A table cell; a cell that is one already stays."""
    return cell if isinstance(cell, Safe) and cell.startswith("<td") else tag("td", cell)


def _heading(cell: object) -> Safe:
    return cell if isinstance(cell, Safe) and cell.startswith("<th") else tag("th", cell, scope="col")


def heat(text: object, strength: float, title: str, *, colour: tuple[int, int, int]) -> Safe:
    """A cell of a heat map: `colour` (red, green, blue) as strong as `strength` (0..1), `title` on hover."""
    alpha = min(max(strength, 0.0), 1.0)
    red, green, blue = colour
    ink = ";color:#fff" if alpha > 0.6 else ""
    return tag("td", text, title=title, css="heat", style=f"background:rgba({red},{green},{blue},{alpha:.2f}){ink}")


def section(title: str, *inside: object, lead: str = "") -> Safe:
    """A part of the page with a heading and a sentence that says how to read it."""
    return tag("section", tag("h2", title), tag("p", lead, css="lead") if lead else Safe(""), *inside)


def fold(summary: str, *inside: object) -> Safe:
    """Something that opens on a click."""
    return tag("details", tag("summary", summary), *inside)
