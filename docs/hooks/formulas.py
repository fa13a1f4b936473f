r"""Formulas, written in LaTeX between dollars, as MathML: browsers draw it by themselves, no script and no font is loaded."""

import re
from html import unescape
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

FORMULA = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)
SPACING = {  # what the converter makes of a sign, and what makes browsers set it as LaTeX does
    "<mi>&#x02032;</mi>": '<mo lspace="0" rspace="0">&#x02032;</mo>',
    "<mo>&#x0002F;</mo>": '<mo lspace="0" rspace="0">&#x0002F;</mo>',
    '<mo stretchy="false">&#x0007C;</mo>': '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>',
    '<mo fence="false" stretchy="false">&#x02016;</mo>': '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>',
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",
}


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (MkDocs calls it by names)
    """The page with each formula converted; one that can't be is told of, and there is no site."""

    def formula(found: re.Match[str]) -> str:
        latex, block = unescape(found["latex"]).strip(), found["open"] == "["
        try:
            math = mathml(latex, block=block)
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {latex} {error}") from None
        return f'<div class="formula" tabindex="0">{math}</div>' if block else math

    return FORMULA.sub(formula, html)


def mathml(latex: str, *, block: bool) -> str:
    """A formula as a `<math>` element.  Raises `ValueError` for what the converter does not know: it would stand there as it is."""
    try:
        math: str = convert(latex, display="block" if block else "inline")
        text = "".join(ET.fromstring(math).itertext())  # noqa: S314 (of our own pages)
    except Exception as error:  # the converter has many
        raise ValueError(f"can't be read ({type(error).__name__}: {error})") from None
    if "\\" in text or "&" in text:
        raise ValueError(f"has something that the converter does not know: {text}")
    for made, meant in SPACING.items():
        math = math.replace(made, meant)
    return math
