"""Writes of banking: accounts, files in and out, what became of lines, the calendar."""

from apps.banking.operations._accounts import (
    BankTerms,
    Holder,
    add_bank_account,
    add_bank_connection,
)
from apps.banking.operations._calendar import seed_calendar
from apps.banking.operations._files import (
    FILES_KIND,
    advance_connection,
    receive_bank_file,
    store_outgoing_file,
)
from apps.banking.operations._importing import import_bank_file, import_received_file
from apps.banking.operations._lines import (
    LINES_KIND,
    LineOutcome,
    begin_turn,
    record_line_outcomes,
)
from apps.banking.operations._polling import (
    POLLS_KIND,
    record_poll,
    record_poll_failed,
    record_poll_unfinished,
)

__all__ = [
    "FILES_KIND",
    "LINES_KIND",
    "POLLS_KIND",
    "BankTerms",
    "Holder",
    "LineOutcome",
    "add_bank_account",
    "add_bank_connection",
    "advance_connection",
    "begin_turn",
    "import_bank_file",
    "import_received_file",
    "receive_bank_file",
    "record_line_outcomes",
    "record_poll",
    "record_poll_failed",
    "record_poll_unfinished",
    "seed_calendar",
    "store_outgoing_file",
]
