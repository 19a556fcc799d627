"""Every refusal of the ledger, with its public code."""

from apps.core.errors import NotFound, RuleViolation, StateConflict


class LedgerAccountNotFound(NotFound):
    code = "ledger_account_not_found"


class LedgerAccountsNotFound(RuleViolation):
    """A command names a ledger account that the organisation does not have."""

    code = "unknown_ledger_account"


class LedgerAccountReserved(RuleViolation):
    """The account is posted to by Kassa's own acts only."""

    code = "ledger_account_reserved"


class LedgerAccountFrozen(StateConflict):
    code = "ledger_account_frozen"


class LedgerAccountClosed(StateConflict):
    code = "ledger_account_closed"


class LedgerAccountDiffers(RuleViolation):
    """An account with this code exists, of another type or currency."""

    code = "ledger_account_differs"


class LedgerCodeReserved(RuleViolation):
    """The code lies in a branch of the tree that Kassa keeps for itself."""

    code = "ledger_code_reserved"


class LedgerCodeTaken(StateConflict):
    """An account with this code stands already; `ledger_account` names it."""

    code = "ledger_code_taken"


class FloorAboveAvailable(RuleViolation):
    """Less is available than the new floor, now or at `available_at`; holds count as gone."""

    code = "floor_above_available"


class LedgerAccountNotEmpty(StateConflict):
    """Something is posted, dated later than now, or reserved on the account; it is not closed."""

    code = "ledger_account_not_empty"


class SameLedgerAccount(RuleViolation):
    """An entry names `ledger_account` twice."""

    code = "same_ledger_account"


class CurrencyMismatch(RuleViolation):
    """The ledger account is in `currency`, which is not what is posted."""

    code = "currency_mismatch"


class InsufficientFunds(RuleViolation):
    """The account's available balance would fall below its floor."""

    code = "insufficient_funds"


class LaterBalanceBelowFloor(RuleViolation):
    """The balance at `balance_at` would fall below the floor: money counts from its time on."""

    code = "later_balance_below_floor"


class PeriodClosed(RuleViolation):
    """The business time lies in a month that is closed, or closing; `period` names it."""

    code = "period_closed"


class LinkedCommandFailed(RuleViolation):
    """Another command of the same linked chain was refused."""

    code = "linked_command_failed"


class LinkedChainOpen(RuleViolation):
    """The last command is linked to a next one, which the batch does not have."""

    code = "linked_chain_open"


class ReferenceReused(RuleViolation):
    """The reference stands for another entry; `journal_entry` names it."""

    code = "reference_reused"


class ReferenceReserved(RuleViolation):
    """References that begin so are those of Kassa's own acts."""

    code = "reference_reserved"


class BalanceTooLarge(RuleViolation):
    """More would have moved over the account than the books can count."""

    code = "balance_too_large"


class HoldNotFound(NotFound):
    code = "hold_not_found"


class HoldAlreadyCaptured(StateConflict):
    code = "hold_already_captured"


class HoldAlreadyVoided(StateConflict):
    code = "hold_already_voided"


class HoldExpired(StateConflict):
    code = "hold_expired"


class HoldNotExpired(StateConflict):
    """The hold's time is not over."""

    code = "hold_not_expired"


class CaptureExceedsHold(RuleViolation):
    code = "capture_exceeds_hold"


class JournalEntryNotFound(NotFound):
    code = "journal_entry_not_found"


class TransferNotFound(NotFound):
    """There is no such journal entry, or no transfer made it."""

    code = "transfer_not_found"


class TransferBatchNotFound(NotFound):
    code = "transfer_batch_not_found"


class AlreadyReversed(StateConflict):
    code = "already_reversed"


class NotReversible(RuleViolation):
    """A reversal is not itself reversed: post the entry that it `reverses` again."""

    code = "not_reversible"


class ReversalTooLarge(RuleViolation):
    """The set's entries have more than `postings_max` postings; undo them in several sets."""

    code = "reversal_too_large"


class PartOfFxTransfer(RuleViolation):
    """The entry is one of an FX transfer's two, which are undone as one; `fx_transfer` names it."""

    code = "part_of_fx_transfer"


class BalanceMonitorNotFound(NotFound):
    code = "balance_monitor_not_found"


class TooManyBalanceMonitors(RuleViolation):
    """Every posting looks at all monitors of its accounts, so an account has not many."""

    code = "too_many_balance_monitors"


class FxTransferNotFound(NotFound):
    code = "fx_transfer_not_found"


class FxSameCurrency(RuleViolation):
    code = "fx_same_currency"


class FxRateInvalid(RuleViolation):
    """The rate is not positive, or has more digits than are kept."""

    code = "fx_rate_invalid"


class FxAmountTooSmall(RuleViolation):
    """At this rate the amount buys less than one minor unit."""

    code = "fx_amount_too_small"


class FxQuoteStale(RuleViolation):
    """The quote is too old, or too far ahead; `quote_seconds_max` is how old one may be."""

    code = "fx_quote_stale"


class OrganizationNotEmpty(StateConflict):
    """A journal is imported where nothing was opened or posted before."""

    code = "organization_not_empty"


class ImportUnderWay(StateConflict):
    """Another import of the same journal goes on in this organisation, or ended meanwhile."""

    code = "import_under_way"


class JournalFileRefused(RuleViolation):
    """A file that is to be imported is not a whole, right journal; `line` says where."""

    code = "journal_file_refused"


class PeriodNotFound(NotFound):
    code = "period_not_found"


class PeriodNotOver(RuleViolation):
    """A month closes an hour after its end at the earliest; `closes_at` says when."""

    code = "period_not_over"


class PeriodOutOfOrder(StateConflict):
    """Months are closed in order and opened again from the last; `period` is the one in turn."""

    code = "period_out_of_order"


class PeriodClosing(StateConflict):
    """Two people have said that it closes; it is closed as soon as nothing older can post."""

    code = "period_closing"


class PeriodClosedAlready(StateConflict):
    code = "period_closed_already"


class PeriodNotClosed(StateConflict):
    """Only a closed month is opened again, and only a closing one is called off."""

    code = "period_not_closed"


class TwoPeopleNeeded(RuleViolation):
    """Who asked for a month to be closed, or for a correction, does not agree to it as well."""

    code = "two_people_needed"


class EntryNotBalanced(RuleViolation):
    """The postings do not sum to zero in `currency`; `residue` is what they sum to."""

    code = "entry_not_balanced"


class ExportTooLarge(RuleViolation):
    """The file would have more than `rows_max` rows; nothing of it was sent."""

    code = "export_too_large"


class ExportTooSlow(RuleViolation):
    """Postgres did not read the file's rows in the time of a request; nothing of it was sent."""

    code = "export_too_slow"


class SharesExceedWhole(RuleViolation):
    """The shares of an amount come to more than 100 %."""

    code = "shares_exceed_whole"
