"""Money: a whole number of minor units and its currency. No float, ever."""

from dataclasses import dataclass
from typing import Final, override

from iso4217 import Currency

# ISO 4217 also lists metals and test codes; they have no minor unit and are not money here.
EXPONENTS: Final[dict[str, int]] = {
    currency.code: currency.exponent for currency in Currency if currency.exponent is not None
}
AMOUNT_MAX: Final = 10**13


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units (1050 is 10.50 EUR) of one ISO 4217 currency."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:
            msg = f"An amount is a whole number of minor units, not {self.amount_minor!r}."
            raise TypeError(msg)
        exponent(self.currency)

    @override
    def __str__(self) -> str:
        return format_minor(self.amount_minor, self.currency)


def exponent(currency: str) -> int:
    """
    Return how many decimals the currency has (ISO 4217: EUR 2, JPY 0, KWD 3).

    :raises ValueError: if it is no ISO 4217 currency with a minor unit
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        msg = f"{currency!r} is not an ISO 4217 currency."
        raise ValueError(msg) from None


def decimal_text(amount_minor: int, currency: str) -> str:
    """Return the amount as files and exports write it: ``1050`` in EUR is ``"10.50"``."""
    places = exponent(currency)
    digits = str(abs(amount_minor)).rjust(places + 1, "0")
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def format_minor(amount_minor: int, currency: str) -> str:
    """Return the amount as people read it: ``1,250.00 EUR``."""
    whole, _, fraction = decimal_text(abs(amount_minor), currency).partition(".")
    sign = "-" if amount_minor < 0 else ""
    point = f".{fraction}" if fraction else ""
    return f"{sign}{int(whole):,}{point} {currency}"
