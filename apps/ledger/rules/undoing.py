"""How much is undone at once."""

from typing import Final

from apps.ledger import errors

# What the largest batch posts. Entries may have a hundred postings each, and all of a set are in
# memory, and their accounts locked, at once.
UNDONE_POSTINGS_MAX: Final = 20_000


def check_undone_at_once(postings: int) -> None:
    """:raises ReversalTooLarge: if entries with so many postings are not undone at once"""
    if postings > UNDONE_POSTINGS_MAX:
        raise errors.ReversalTooLarge(
            "These journal entries have more postings than are undone at once.",
            postings_max=UNDONE_POSTINGS_MAX,
        )
