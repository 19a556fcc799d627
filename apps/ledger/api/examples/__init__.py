"""
One worked call of each of the ledger's operations, for the OpenAPI document.

They are one story: Ann has 100.00 EUR, Bob sells her something, Kassa's client keeps a fee of it.
Tests hold each against the document's own schemas.
"""

from apps.ledger.api.examples import accounts, entries, history

__all__ = ["accounts", "entries", "history"]
