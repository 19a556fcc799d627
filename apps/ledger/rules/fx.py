"""Changing money at a quoted rate, rounded in favor of whoever provides the liquidity."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Final

from apps.core.money import exponent
from apps.ledger import errors
from apps.ledger.rules.posting import CLOCK_SKEW

# The kind of an exchange's two entries.
FX_KIND: Final = "fx"
RATE_DIGITS_MAX: Final = 16
RATE_DECIMALS_MAX: Final = 12
QUOTE_SECONDS_MAX: Final = 300
# A rate of 28 digits times an amount of 19, moved by the 4 decimals that currencies can differ.
_PRECISION: Final = 60


@dataclass(frozen=True, slots=True)
class Quote:
    """
    What an amount comes to in another currency.

    `remainder_minor` is the part of a bought minor unit that rounding leaves: 0 to below 1, exact.
    """

    bought_minor: int
    remainder_minor: Decimal


def quote(*, sold_minor: int, sold_currency: str, bought_currency: str, rate: Decimal) -> Quote:
    """
    Return what `sold_minor` buys, rounded down, and the remainder that liquidity keeps.

    `rate` is how many major units are bought for one major unit sold; amounts are minor units, by
    the exponents of ISO 4217. Sold times rate is bought plus remainder, exactly.

    :raises FxSameCurrency: if nothing would be changed
    :raises FxRateInvalid: if the rate is not positive, or has more digits than are kept
    :raises FxAmountTooSmall: if less than one minor unit would be bought
    """
    if sold_currency == bought_currency:
        raise errors.FxSameCurrency("Money is changed into another currency.")
    check_rate(rate)
    with localcontext(prec=_PRECISION):
        exact = (rate * sold_minor).scaleb(exponent(bought_currency) - exponent(sold_currency))
        bought_minor = int(exact)
        remainder_minor = exact - bought_minor
    if bought_minor == 0:
        raise errors.FxAmountTooSmall("This buys less than one minor unit.", amount=sold_minor)
    return Quote(bought_minor, remainder_minor)


def check_rate(rate: Decimal) -> None:
    """
    Refuse what is no rate: not positive, or with more digits than are kept.

    :raises FxRateInvalid: with the bounds in its message
    """
    if (
        not rate.is_finite()
        or not 0 < rate < 10**RATE_DIGITS_MAX
        or rate.quantize(Decimal(1).scaleb(-RATE_DECIMALS_MAX)) != rate
    ):
        raise errors.FxRateInvalid(
            f"A rate is greater than 0, with at most {RATE_DIGITS_MAX} digits before the point"
            f" and {RATE_DECIMALS_MAX} behind it."
        )


def check_fresh(*, quoted_at: datetime, now: datetime) -> None:
    """
    Refuse a quote older than `QUOTE_SECONDS_MAX`, or further ahead than `CLOCK_SKEW`.

    Both bounds are allowed themselves: who quotes has a clock of their own.

    :raises FxQuoteStale: with how old one may be
    """
    if not -CLOCK_SKEW <= now - quoted_at <= timedelta(seconds=QUOTE_SECONDS_MAX):
        raise errors.FxQuoteStale(
            f"A quote is at most {QUOTE_SECONDS_MAX} seconds old, and no more than"
            f" {CLOCK_SKEW.seconds} ahead of our clock.",
            quote_seconds_max=QUOTE_SECONDS_MAX,
        )


def rate_text(rate: Decimal) -> str:
    """Return a rate as it is printed and compared: a plain decimal without idle zeros."""
    return f"{rate.normalize():f}"
