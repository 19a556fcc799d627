"""
The only way XML from outside is read.

Entities, the network and DTDs are off. A DOCTYPE is found in the bytes before the parser sees
them, so nothing in it is ever expanded or fetched; a budget of markup keeps the memory of any file
within a fixed multiple of the size cap.
"""

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Final

from lxml import etree

from apps.banking.formats.problems import refuse

FILE_BYTES_MAX: Final = 50 * 1024 * 1024
# A node costs the parser about 150 bytes however short it is written. Statements of 50 MB hold
# some 1.5 million "<" and "="; four million of them is a file made to fill memory.
MARKUP_MAX: Final = 4_000_000

_SPACE: Final = b" \t\r\n"
_DECLARED: Final = re.compile(rb"""\A<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
# Only encodings in which ASCII is ASCII: in any other one a DOCTYPE could hide from `_prolog`.
_ENCODING: Final = re.compile(
    r"\A(utf-?8|us-ascii|ascii|iso-?8859-\d{1,2}|windows-125\d)\Z", re.IGNORECASE
)

type Node = etree._Element  # noqa: SLF001  (lxml names the class of its elements only so)
type Event = tuple[str, Node]


def events(data: bytes, *, tags: Sequence[str]) -> Iterator[Event]:
    """
    Yield ("start" or "end", element) for elements with these local names, while reading.

    The reader clears what it has used. The first event is always the start of the root.

    :raises UnreadableFile: if the file is too large, has a DOCTYPE, or is not well-formed XML
    """
    _refuse_by_bytes(data)
    try:
        yield from etree.iterparse(
            BytesIO(data),
            events=("start", "end"),
            tag=[f"{{*}}{tag}" for tag in ("Document", *tags)],
            attribute_defaults=False,
            dtd_validation=False,
            load_dtd=False,
            no_network=True,
            resolve_entities=False,
            remove_comments=True,
            remove_pis=True,
            remove_blank_text=True,
            recover=False,
            huge_tree=False,
        )
    except etree.XMLSyntaxError as fault:
        # The first line of libxml2's message is its own wording, never the file's content alone.
        raise refuse(
            "malformed_xml", f"The file is not well-formed XML: {fault.msg}.", line=fault.lineno
        ) from fault


def root_of(data: bytes) -> tuple[str, str, str]:
    """
    Return namespace and local name of the root, and the local name of its first child.

    :raises UnreadableFile: as `events`
    """
    _refuse_by_bytes(data)
    names: list[tuple[str, str]] = []
    try:
        parser = etree.XMLPullParser(
            events=("start",),
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
            huge_tree=False,
        )
        for start in range(0, len(data), 4096):
            parser.feed(data[start : start + 4096])
            names += [split(getattr(node, "tag", "")) for _event, node in parser.read_events()]
            if len(names) > 1:
                break
        else:
            parser.close()
    except etree.XMLSyntaxError as fault:
        raise refuse(
            "malformed_xml", f"The file is not well-formed XML: {fault.msg}.", line=fault.lineno
        ) from fault
    namespace, root = names[0]
    return namespace, root, names[1][1] if len(names) > 1 else ""


def split(tag: object) -> tuple[str, str]:
    """Return namespace and local name of a tag."""
    namespace, _, name = str(tag).rpartition("}")
    return namespace.removeprefix("{"), name


def local_name(node: Node) -> str:
    """Return the element's name without its namespace."""
    return split(node.tag)[1]


def line_of(node: Node) -> int | None:
    """Return the line of the file the element begins on, where lxml knows it."""
    line: object = node.sourceline
    return line if isinstance(line, int) else None


def _refuse_by_bytes(data: bytes) -> None:
    if len(data) > FILE_BYTES_MAX:
        raise refuse("file_too_large", "The file is larger than 50 MB.", bytes=len(data))
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
    if not head.startswith(b"<") or head[1:2] in {b"", b"\x00"}:
        raise refuse("not_xml", "The file is not XML.", line=1)
    declared = _DECLARED.match(head)
    if declared and not _ENCODING.match(declared.group(1).decode("ascii")):
        name = declared.group(1).decode("ascii")
        raise refuse("unknown_encoding", f"The encoding {name} is not read.", line=1)
    _prolog(head)
    if data.count(b"<") + data.count(b"=") > MARKUP_MAX:
        raise refuse("file_too_large", "The file has more markup than a statement can need.")


def _prolog(head: bytes) -> None:
    """Walk to the root element, and refuse a DOCTYPE; elsewhere XML itself forbids one."""
    at = 0
    while at < len(head):
        if head.startswith(b"<?", at):
            at = _after(head, b"?>", at)
        elif head.startswith(b"<!--", at):
            at = _after(head, b"-->", at + 4)
        elif head.startswith(b"<!", at):
            raise refuse(
                "doctype_refused",
                "The file declares a document type (DOCTYPE); none is read.",
                line=head.count(b"\n", 0, at) + 1,
            )
        elif head[at : at + 1] in _SPACE_BYTES:
            at += 1
        else:
            return


_SPACE_BYTES: Final = frozenset(bytes([code]) for code in _SPACE)


def _after(head: bytes, end: bytes, at: int) -> int:
    found = head.find(end, at)
    return len(head) if found < 0 else found + len(end)
