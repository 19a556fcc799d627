"""Splitting an amount so that its shares always add up."""

from collections.abc import Sequence
from typing import Final

from apps.ledger import errors

# A share of 10,000 basis points is the whole; 2.5 % is 250.
WHOLE_BASIS_POINTS: Final = 10_000


def split(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """
    Split an amount by whole weights: floor each share, hand the rest out one unit from the top.

    99 into fifths is 20, 20, 20, 20, 19. Shares always add up to the amount. A weight of 0 gets
    nothing.

    :raises ValueError: if the amount or a weight is negative, or all weights are zero
    """
    total = sum(weights)
    if amount_minor < 0 or total <= 0 or min(weights) < 0:
        msg = "An amount is split by weights of which none is negative and one is positive."
        raise ValueError(msg)
    shares = [amount_minor * weight // total for weight in weights]
    left = amount_minor - sum(shares)
    for place, weight in enumerate(weights):
        if left and weight:
            shares[place] += 1
            left -= 1
    return shares


def split_by_basis_points(amount_minor: int, shares: Sequence[int]) -> tuple[list[int], int]:
    """
    Split an amount by shares in basis points; return each part, and what is left of the amount.

    Shares of the whole leave nothing: what flooring leaves is handed out one unit from the top. Of
    fewer, the rest of the whole is one more share, and the last to be handed a unit: 1001 by 50 %
    and 25 % is 501 and 250, and 250 are left.

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
    *parts, left = split(amount_minor, [*shares, WHOLE_BASIS_POINTS - total])
    return parts, left
