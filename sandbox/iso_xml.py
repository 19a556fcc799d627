"""Reading XML that others wrote, and writing our own."""

from __future__ import annotations

# The builder below refuses every DOCTYPE, so no entity can be declared, let alone expanded.
from xml.etree import ElementTree as ET

SIZE_MAX = 20 * 1024 * 1024


class Unreadable(ValueError):
    """The bytes are not an XML document that the bank accepts."""


class _Builder(ET.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise Unreadable("a DOCTYPE is not accepted")


def parse(content: bytes) -> ET.Element:
    """
    Parse one document.

    :raises Unreadable: if it is too large, malformed, or carries a DOCTYPE
    """
    if len(content) > SIZE_MAX:
        raise Unreadable("the file is too large")
    parser = ET.XMLParser(target=_Builder())  # noqa: S314  (see the import)
    try:
        parser.feed(content)
        return parser.close()
    except (ET.ParseError, LookupError) as error:
        raise Unreadable(str(error)) from error


def local_name(element: ET.Element) -> str:
    """Return the element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def find_all(element: ET.Element, path: str) -> list[ET.Element]:
    """Return what a path of local names leads to."""
    found = [element]
    for step in path.split("/"):
        found = [child for parent in found for child in parent if local_name(child) == step]
    return found


def text_of(element: ET.Element, path: str) -> str:
    """Return the trimmed text at a path of local names, or an empty string."""
    for found in find_all(element, path):
        return (found.text or "").strip()
    return ""


def put(parent: ET.Element, path: str, text: str | None = None, **attributes: str) -> ET.Element:
    """Append the elements of a path, one inside the other, and return the last."""
    for step in path.split("/"):
        parent = ET.SubElement(parent, step)
    parent.text = text
    parent.attrib.update(attributes)
    return parent


def document(namespace: str) -> ET.Element:
    """Return an empty ISO 20022 document."""
    return ET.Element("Document", {"xmlns": namespace})


def serialize(root: ET.Element) -> bytes:
    """Write a document, indented so that people can read it."""
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written + b"\n"
