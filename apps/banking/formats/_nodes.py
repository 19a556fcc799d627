"""Small readers of one element's children, by local name."""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Final

from apps.banking.formats.amounts import minor
from apps.banking.formats.problems import refuse
from apps.banking.formats.secure_xml import Node, line_of

COUNT_DIGITS_MAX: Final = 15
YEAR_MIN: Final = 1900
YEAR_MAX: Final = 2999
# A file is taken whole, in one transaction of one turn: what is in it is bounded, not only its
# bytes, since a transaction may be a hundred bytes or a thousand (ADR 0122).
TRANSACTIONS_MAX: Final = 30_000
STATEMENTS_MAX: Final = 1_000
_NO_REFERENCE: Final = frozenset({"NOTPROVIDED", "NONREF"})


class Branch:
    """
    An element whose children are found by local name.

    Children are sorted by name once, when first asked for: lxml's own search with any namespace
    costs ten times as much, and an entry is asked some forty questions.
    """

    __slots__ = ("_children", "element")

    def __init__(self, element: Node) -> None:
        self.element = element
        self._children: dict[str, list[Branch]] | None = None

    @property
    def line(self) -> int | None:
        return line_of(self.element)

    def each(self, name: str) -> Sequence["Branch"]:
        """Return the children of this local name, in order."""
        children = self._children
        if children is None:
            children = self._children = {}
            for child in self.element:
                local = _local(child.tag)
                if local in children:
                    children[local].append(Branch(child))
                else:
                    children[local] = [Branch(child)]
        return children.get(name, ())

    def at(self, path: str) -> "Branch | None":
        """Return the first element at the path of local names."""
        found = self
        for name in _parts(path):
            children = found.each(name)
            if not children:
                return None
            found = children[0]
        return found

    def every(self, path: str) -> Sequence["Branch"]:
        """Return all elements at the path of local names."""
        found: Sequence[Branch] = (self,)
        for name in _parts(path):
            found = [child for branch in found for child in branch.each(name)]
        return found


@lru_cache(maxsize=512)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


@lru_cache(maxsize=4096)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def text(node: Branch, path: str) -> str | None:
    """Return the trimmed text at the path of local names, or None where empty or absent."""
    found = node.at(path)
    return (found.element.text or "").strip() or None if found is not None else None


def texts(node: Branch, path: str) -> tuple[str, ...]:
    """Return every non-empty text at the path, trimmed, in order."""
    found = [(each.element.text or "").strip() for each in node.every(path)]
    return tuple(each for each in found if each)


def reference(node: Branch, path: str) -> str | None:
    """Return the text, unless it is a bank's way of writing "none"."""
    found = text(node, path)
    return None if found is None or found.upper() in _NO_REFERENCE else found


def day(node: Branch, path: str) -> date | None:
    """
    Return the day of a Dt or DtTm choice, in the bank's own zone.

    :raises UnreadableFile: if it is no date
    """
    choice = node.at(path)
    if choice is None:
        return None
    found = text(choice, "Dt") or text(choice, "DtTm")
    if found is None:
        return None
    try:
        read = date.fromisoformat(found[:10])
    except ValueError:
        raise refuse("malformed", f"{found[:40]!r} is not a date.", line=choice.line) from None
    # At either end of the calendar a day has no instant in some zones.
    if not YEAR_MIN <= read.year <= YEAR_MAX:
        raise refuse("malformed", f"{read} is no day on which a bank booked.", line=choice.line)
    return read


def flag(found: str | None) -> bool:
    """Return an xs:boolean; absent is false."""
    return found in {"true", "1"}


def number(found: str) -> int:
    """
    Return a count.

    :raises UnreadableFile: if it is not a number of up to 15 digits
    """
    if not (found.isascii() and found.isdigit() and len(found) <= COUNT_DIGITS_MAX):
        raise refuse("malformed", f"{found[:40]!r} is not a count.")
    return int(found)


def refuse_too_many(*, transactions: int, statements: int = 0, line: int | None) -> None:
    """
    Refuse a file that holds more than can be taken whole in the time of one turn.

    :raises UnreadableFile: `file_too_large`, saying how much is taken
    """
    for count, most, what in (
        (transactions, TRANSACTIONS_MAX, "transactions"),
        (statements, STATEMENTS_MAX, "statements"),
    ):
        if count > most:
            raise refuse(
                "file_too_large",
                f"The file has more than {most:,} {what}. Ask the bank for smaller files: of fewer"
                " accounts, or several a day.",
                line=line,
            )


def required_amount(node: Branch, path: str) -> tuple[int, str]:
    """
    Return minor units and currency of the amount at the path.

    :raises UnreadableFile: if there is none, or as `amounts.minor`
    """
    found = node.at(path)
    if found is None:
        raise refuse("malformed", "The amount is missing.", line=node.line)
    currency = found.element.get("Ccy", "")
    return minor((found.element.text or "").strip(), currency, line=found.line), currency


def amount_in(node: Branch, path: str, currency: str) -> int | None:
    """Return minor units of the amount at the path, or None where absent or in other money."""
    found = node.at(path)
    if found is None or found.element.get("Ccy") != currency:
        return None
    return minor((found.element.text or "").strip(), currency, line=found.line)
