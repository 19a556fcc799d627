"""Destinations, payouts, their attempts and batches, and what the bank answered."""

from apps.payouts.models.bank_facts import BankFact
from apps.payouts.models.batches import BatchWork, PayoutAttempt, PayoutBatch
from apps.payouts.models.destinations import Destination, DestinationVersion
from apps.payouts.models.payouts import Payout, PayoutPrice, PayoutTransition

__all__ = [
    "BankFact",
    "BatchWork",
    "Destination",
    "DestinationVersion",
    "Payout",
    "PayoutAttempt",
    "PayoutBatch",
    "PayoutPrice",
    "PayoutTransition",
]
