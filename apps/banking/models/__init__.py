"""Bank accounts of ours, the files that come and go, and what the bank says it booked."""

from apps.banking.models.accounts import BankAccount, BankConnection, ConnectionPoll
from apps.banking.models.calendar import CalendarDay
from apps.banking.models.files import BankFile, BankFileWork
from apps.banking.models.lines import BankLine, BankLineDetail, BankLineStatus, LineQueue
from apps.banking.models.statements import BankStatement

__all__ = [
    "BankAccount",
    "BankConnection",
    "BankFile",
    "BankFileWork",
    "BankLine",
    "BankLineDetail",
    "BankLineStatus",
    "BankStatement",
    "CalendarDay",
    "ConnectionPoll",
    "LineQueue",
]
