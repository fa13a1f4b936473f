"""matplotlib's SVG as a part of a page.

In its own file an SVG may have any ids, a style sheet and style attributes.  In a page the ids of several figures would clash, and a
Content-Security-Policy that allows no style attributes would leave the lines black: here ids get the figure's name in front, and styles become
presentation attributes (SVG 2, section 6.6).
"""

import re
from xml.etree import ElementTree as ET

from markupsafe import Markup

__all__ = ["inlined"]

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
DROPPED = {f"{SVG}metadata", f"{SVG}style"}
EVERYWHERE = {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # what the style sheet says, which is dropped; elements inherit it
TARGET = re.compile(r"url\(#([^)]+)\)")
DECIMALS = re.compile(r"(\.\d\d)\d+")  # of a path's coordinates: a hundredth of a point is not seen


def inlined(svg: str, name: str, label: str) -> Markup:
    """The figure as an element that can stand in HTML; `name`: its file's, `label`: what it is, for those who don't see it."""
    root = ET.fromstring(svg)  # noqa: S314 (of our own making)
    wanted = _targets(root)
    for parent in list(root.iter()):
        for child in [it for it in parent if it.tag in DROPPED]:
            parent.remove(child)
    for element in root.iter():
        _adapt(element, name, wanted)
    size = root.get("viewBox", "")
    root.attrib = {"viewBox": size, "role": "img", "aria-label": label} | EVERYWHERE
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 (serialized: what is text is escaped)


def _targets(root: ET.Element) -> set[str]:
    """The ids that something refers to."""
    values = [value for element in root.iter() for value in [*element.attrib.values()]]
    return {value[1:] for value in values if value.startswith("#")} | {found for value in values for found in TARGET.findall(value)}


def _adapt(element: ET.Element, name: str, wanted: set[str]) -> None:
    element.tag = element.tag.removeprefix(SVG)
    element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "style":
            element.attrib |= {prop.strip(): each.strip() for prop, _, each in (part.partition(":") for part in value.split(";")) if each}
        elif key == "id":
            element.attrib |= {"id": f"{name}-{value}"} if value in wanted else {}
        elif key == "d":
            element.set(key, " ".join(DECIMALS.sub(r"\1", value).split()))
        else:
            told = f"#{name}-{value[1:]}" if value.startswith("#") and key.endswith("href") else TARGET.sub(rf"url(#{name}-\1)", value)
            element.set(key.removeprefix(XLINK), told)
