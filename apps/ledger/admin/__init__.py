"""Staff screens of the ledger: read, never written. See the package's modules, one per subject."""

from apps.ledger.admin import _books, _chain, _monitors

__all__ = ["_books", "_chain", "_monitors"]
