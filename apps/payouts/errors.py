"""Every refusal of payouts, with its public code."""

from apps.core.errors import InvalidInput, NotFound, RuleViolation, StateConflict


class DestinationNotFound(NotFound):
    code = "destination_not_found"


class PayoutNotFound(NotFound):
    code = "payout_not_found"


class BatchNotFound(NotFound):
    code = "payout_batch_not_found"


class InvalidIban(InvalidInput):
    """The text is no IBAN; `cause` says why: country, length, characters, checksum, …"""

    code = "invalid_iban"


class BicMismatch(InvalidInput):
    """The BIC is not of the bank that the IBAN names."""

    code = "bic_mismatch"


class UnstructuredAddress(InvalidInput):
    """Banks take no address without town and country any more."""

    code = "unstructured_address"


class InvalidRemittance(InvalidInput):
    """A text and a reference at once, or a reference whose check digits are wrong."""

    code = "invalid_remittance"


class DestinationExists(StateConflict):
    """The customer has this account already; `destination` names it."""

    code = "destination_exists"


class UnsupportedCurrency(RuleViolation):
    code = "unsupported_currency"


class UnsupportedCountry(RuleViolation):
    """The account is outside the SEPA zone."""

    code = "unsupported_country"


class DestinationUnverified(RuleViolation):
    code = "destination_unverified"


class DestinationDisabled(RuleViolation):
    code = "destination_disabled"


class PayoutCurrencyMismatch(RuleViolation):
    """The payout and its destination are in different currencies."""

    code = "payout_currency_mismatch"


class AmountTooLarge(RuleViolation):
    """More than one instruction of this rail may carry."""

    code = "amount_too_large"


class NoLedgerAccount(RuleViolation):
    """The customer has no account in this currency, so nothing to pay out."""

    code = "no_ledger_account"


class AccountFrozen(StateConflict):
    """The customer is frozen or closed: nothing leaves."""

    code = "account_frozen"


class DuplicateExternalId(StateConflict):
    """Another payout has this external id; `payout` names it."""

    code = "duplicate_external_id"


class PayoutNotCancelable(StateConflict):
    """It is in a bank file, or closed."""

    code = "not_cancelable"


class PayoutNotHeld(StateConflict):
    """The payout is not held for this reason (any more)."""

    code = "not_held"


class BatchNotReady(StateConflict):
    """The batch is not in the state that this act starts from; `state` says which it is in."""

    code = "payout_batch_not_ready"


class BatchMayHaveBeenSent(StateConflict):
    """A send was tried: only two people may say that the bank has nothing."""

    code = "payout_batch_may_have_been_sent"
