"""Writes of payments: references to be paid under, and money that comes in."""

from apps.payments.operations._receiving import (
    SUSPENSE_IN,
    Received,
    receive_bank_transfers,
)
from apps.payments.operations._references import create_virtual_reference

__all__ = ["SUSPENSE_IN", "Received", "create_virtual_reference", "receive_bank_transfers"]
