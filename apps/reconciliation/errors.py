"""Every refusal of reconciliation, with its public code."""

from apps.core.errors import NotFound


class MatchNotFound(NotFound):
    """The organization has no such match."""

    code = "match_not_found"


class BreakNotFound(NotFound):
    """The organization has no such break."""

    code = "break_not_found"


class OpeningBalanceNotFound(NotFound):
    """The organization has no such opening balance."""

    code = "opening_balance_not_found"
