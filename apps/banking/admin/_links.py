"""What the screens of banking have in common."""

from django.urls import reverse

from apps.banking.models import BankStatement
from apps.core.ids import encode_id

ROWS_SHOWN = 100


def statement_url(statement: BankStatement) -> str:
    """Return the address of a statement's page."""
    return reverse("admin:banking_bankstatement_change", args=[encode_id("bst", statement.id)])
