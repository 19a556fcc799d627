"""Writes of payments: references to be paid under, and money that comes in."""

from apps.payments.operations._accounts import open_customer_accounts
from apps.payments.operations._receiving import (
    SUSPENSE_IN,
    Received,
    receive_bank_transfers,
)
from apps.payments.operations._references import create_virtual_reference

__all__ = [
    "SUSPENSE_IN",
    "Received",
    "create_virtual_reference",
    "open_customer_accounts",
    "receive_bank_transfers",
]
