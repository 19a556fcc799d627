"""The legs of an entry as somebody outside asks for them, before they are a command."""

from collections.abc import Sequence

from apps.ledger import errors
from apps.ledger.rules.values import Leg


def check_balanced(legs: Sequence[Leg]) -> None:
    """
    Refuse legs that do not sum to zero in each of their currencies.

    :raises EntryNotBalanced: naming the first currency that does not, and its residue
    """
    totals: dict[str, int] = {}
    for leg in legs:
        totals[leg.currency] = totals.get(leg.currency, 0) + leg.amount_minor
    for currency, residue in totals.items():
        if residue:
            raise errors.EntryNotBalanced(
                f"The postings in {currency} do not sum to zero.",
                currency=currency,
                residue=residue,
            )
