"""
What a SEPA message may be written with (EPC217-08), and how other text gets there.

The basic set is `a-z A-Z 0-9 / - ? : ( ) . , ' +` and space. Text is composed (NFC), looked up in
the table, its marks taken off, and what is then still outside becomes a full stop.
"""

# ruff: noqa: RUF001  (a table of letters that look like others is what this is)

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

ALLOWED: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-?:().,'+ "
)
_LEFT_OVER: Final = "."

_LATIN: Final = {
    "ß": "s", "ẞ": "S", "æ": "a", "Æ": "A", "œ": "o", "Œ": "O", "ø": "o", "Ø": "O",
    "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "t", "Þ": "T",
    "ħ": "h", "Ħ": "H", "ı": "i", "ĸ": "k", "ŀ": "l", "Ŀ": "L", "ŋ": "n", "Ŋ": "N",
    "ŧ": "t", "Ŧ": "T", "ſ": "s", "ŉ": "n", "ƒ": "f",
}  # fmt: skip
_SIGNS: Final = {
    "&": "+", "@": "(at)", "€": "E", "_": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-",
    "‘": "'", "’": "'", "‚": "'", "`": "'", "´": "'", "“": "'", "”": "'", "„": "'", '"': "'",
    "«": "'", "»": "'", "[": "(", "]": ")", "{": "(", "}": ")", ";": ",", "|": "/", "\\": "/",
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ",
}  # fmt: skip
# Greek by ELOT 743, letter for letter; the accents are off by then.
_GREEK: Final = {
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i",
    "κ": "k", "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s",
    "ς": "s", "τ": "t", "υ": "y", "φ": "f", "χ": "ch", "ψ": "ps", "ω": "o",
}  # fmt: skip
# Cyrillic as Bulgaria's transliteration act of 2009 has it, the SEPA country that writes it.
_CYRILLIC: Final = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i",
    "й": "y", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s",
    "т": "t", "у": "u", "ф": "f", "х": "h", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sht",
    "ъ": "a", "ь": "y", "ю": "yu", "я": "ya",
}  # fmt: skip


def _with_capitals(table: dict[str, str]) -> dict[str, str]:
    return table | {
        letter.upper(): plain.capitalize() for letter, plain in table.items() if letter != "ς"
    }


TABLE: Final = _LATIN | _SIGNS | _with_capitals(_GREEK) | _with_capitals(_CYRILLIC)

_BLANKS: Final = re.compile(r" {2,}")
_PLAIN: Final = re.compile(r"\A[a-zA-Z0-9/\-?:().,'+ ]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The text as it goes into the file, and what was done to it."""

    text: str
    is_converted: bool
    is_cut: bool

    @property
    def is_changed(self) -> bool:
        return self.is_converted or self.is_cut

    @property
    def is_meaningless(self) -> bool:
        """Say whether nothing readable is left: empty, or full stops alone."""
        return not self.text.strip(". ")


def convert(text: str, *, length_max: int) -> Converted:
    """
    Return the text in the basic character set, spaces collapsed, then cut to `length_max`.

    The same text always gives the same result; converting a result changes nothing.
    """
    plain = text if _PLAIN.match(text) else "".join(map(_convert_character, _composed(text)))
    plain = _BLANKS.sub(" ", plain).strip(" ")
    cut = plain[:length_max].rstrip(" ")
    return Converted(text=cut, is_converted=plain != text, is_cut=cut != plain)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _convert_character(character: str) -> str:
    if character in ALLOWED:
        return character
    if character in TABLE:
        return TABLE[character]
    bare = [
        part
        for part in unicodedata.normalize("NFKD", character)
        if not unicodedata.category(part).startswith("M")
    ]
    if not bare:
        return ""  # A mark without a letter under it.
    return "".join(part if part in ALLOWED else TABLE.get(part, _LEFT_OVER) for part in bare)
