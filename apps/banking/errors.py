"""Every refusal of banking, with its public code."""

from apps.core.errors import NotFound, RuleViolation, StateConflict


class BankAccountNotFound(NotFound):
    """The organization has no such bank account."""

    code = "bank_account_not_found"


class BankConnectionNotFound(NotFound):
    """The organization has no such bank connection."""

    code = "bank_connection_not_found"


class BankFileNotFound(NotFound):
    """The organization has no such bank file."""

    code = "bank_file_not_found"


class BankStatementNotFound(NotFound):
    """The organization has no such statement."""

    code = "bank_statement_not_found"


class BankLineNotFound(NotFound):
    """The organization has no such bank line."""

    code = "bank_line_not_found"


class BankAccountExists(StateConflict):
    """The organization added this account in this currency before."""

    code = "bank_account_exists"


class InvalidBankAccount(RuleViolation):
    """The account's data cannot be right: its IBAN, currency or zone."""

    code = "invalid_bank_account"


class FileMessageIdReused(StateConflict):
    """Another outgoing file carries this message id."""

    code = "file_message_id_reused"


class CalendarNotSeeded(RuleViolation):
    """The day is outside the years whose holidays we know; it is never taken for open."""

    code = "calendar_not_seeded"
