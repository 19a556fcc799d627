"""What reconciliation hears from below: one operation call each."""

from apps.approvals import registry as approvals
from apps.banking import registry as banking
from apps.reconciliation import operations


def register() -> None:
    """Listen to statements, and make the act known that accepts opening balances."""
    banking.register_statement_listener(operations.note_statements)
    approvals.register(operations.opening_act())
