"""Splitting an amount so that its shares always add up."""

from collections.abc import Sequence
from typing import Final

from apps.ledger import errors

# A share of 10,000 basis points is the whole; 2.5 % is 250.
WHOLE_BASIS_POINTS: Final = 10_000


def split_by_basis_points(amount_minor: int, shares: Sequence[int]) -> tuple[list[int], int]:
    """
    Split an amount by shares in basis points; return each part, and what is left of the amount.

    Each share is floored, and what flooring leaves is handed out one unit from the top: 99 into
    fifths is 20, 20, 20, 20, 19. Shares of less than the whole leave the rest of it, which is one
    more share and the last to be handed a unit: 1001 by 50 % and 25 % is 501 and 250, and 250 are
    left. A share of 0 gets nothing.

    :raises ValueError: if the amount or a share is negative
    :raises SharesExceedWhole: if the shares come to more than 100 %
    """
    if amount_minor < 0 or any(share < 0 for share in shares):
        msg = "An amount is split by shares of which none is negative."
        raise ValueError(msg)
    total = sum(shares)
    if total > WHOLE_BASIS_POINTS:
        raise errors.SharesExceedWhole(
            "The shares come to more than 100 %.",
            basis_points=total,
            basis_points_max=WHOLE_BASIS_POINTS,
        )
    all_shares = [*shares, WHOLE_BASIS_POINTS - total]
    parts = [amount_minor * share // WHOLE_BASIS_POINTS for share in all_shares]
    spare = amount_minor - sum(parts)
    for place, share in enumerate(all_shares):
        if spare and share:
            parts[place] += 1
            spare -= 1
    return parts[:-1], parts[-1]
