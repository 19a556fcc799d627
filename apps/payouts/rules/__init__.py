"""Decisions over values; see the module that each name comes from."""

from apps.payouts.rules.bank_lines import BankLineFact, LineOutcome, LineResult
from apps.payouts.rules.codes import (
    CODES,
    Desk,
    DestinationEffect,
    Handling,
    MoneyEffect,
    Retry,
    handling,
)
from apps.payouts.rules.cutoffs import (
    CutOff,
    IsOpen,
    execution_date,
    is_freeze_due,
    missed_its_day,
    next_open_day,
)
from apps.payouts.rules.derived import (
    AttemptPart,
    PriceLine,
    fee,
    fold_reference,
    payout_state,
)
from apps.payouts.rules.destinations import (
    SEPA_COUNTRIES,
    IbanRefusedError,
    address_fault,
    bic_agrees,
    read_iban,
)

__all__ = [
    "CODES",
    "SEPA_COUNTRIES",
    "AttemptPart",
    "BankLineFact",
    "CutOff",
    "Desk",
    "DestinationEffect",
    "Handling",
    "IbanRefusedError",
    "IsOpen",
    "LineOutcome",
    "LineResult",
    "MoneyEffect",
    "PriceLine",
    "Retry",
    "address_fault",
    "bic_agrees",
    "execution_date",
    "fee",
    "fold_reference",
    "handling",
    "is_freeze_due",
    "missed_its_day",
    "next_open_day",
    "payout_state",
    "read_iban",
]
