"""Splitting an amount so that its shares always add up."""

from collections.abc import Sequence


def split(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """
    Split an amount by whole weights: floor each share, hand the rest out one unit from the top.

    99 into fifths is 20, 20, 20, 20, 19. Shares always add up to the amount.

    :raises ValueError: if the amount or a weight is negative, or all weights are zero
    """
    total = sum(weights)
    if amount_minor < 0 or total <= 0 or min(weights) < 0:
        msg = "An amount is split by weights of which none is negative and one is positive."
        raise ValueError(msg)
    shares = [amount_minor * weight // total for weight in weights]
    for place in range(amount_minor - sum(shares)):
        shares[place] += 1
    return shares
