"""Staff screens over several apps: the customer's page, and corrections of the books."""

from apps.backoffice.admin import _corrections, _customers

__all__ = ["_corrections", "_customers"]
