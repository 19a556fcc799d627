"""What the back office hears from below, and what those there ask of it without knowing it."""

from apps.accounts import registry as accounts
from apps.backoffice import operations, queries
from apps.core import findings
from apps.ledger import registry as ledger


def register() -> None:
    """Register acts on months, entries and freezes, who asks for them, and what is broken."""
    findings.register(find=queries.list_broken, keep=operations.keep_whole_check)
    operations.register_period_acts()
    operations.register_correction_acts()
    operations.register_freeze_act()
    accounts.register_refreeze_listener("backoffice", operations.drop_unfreeze_request)
    ledger.register_period_requests(
        close=operations.request_period_close,
        reopen=operations.request_period_reopen,
        asked=queries.find_waiting_period_request,
    )
    ledger.register_correction_requests(
        reverse=operations.request_reversal,
        adjust=operations.request_adjustment,
        found=queries.find_corrections,
    )
