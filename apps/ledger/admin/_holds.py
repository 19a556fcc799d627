"""What is reserved of an account's money, as its page shows it."""

from collections.abc import Callable, Sequence
from uuid import UUID

from django.utils.safestring import SafeString

from apps.core.admin_base import Table, cells, zone_of
from apps.ledger.admin._links import account_link, holds_url
from apps.ledger.models import LedgerAccount
from apps.ledger.queries import HeldView

HOLDS_SHOWN = 50


def held_table(account: LedgerAccount, show: Callable[[str], SafeString]) -> Table | None:
    """
    Return the open holds on an account's money, the newest first; none where nothing is reserved.

    They were read with the account's balance, as of the same instant. `show` links a printed id.
    """
    found: Sequence[HeldView] = account.holds  # type: ignore[attr-defined]  # attached by prepare
    if not found:
        return None
    holds = found[:HOLDS_SHOWN]
    zone = zone_of(account)
    return Table(
        "Held",
        ("Hold", "For", "Reference", "Since", "Until", ">Captured", ">Held"),
        [
            [
                cells.row_link("ledger_hold", "ho", hold.id),
                account_link(_other(hold, account), hold.other_code),
                reference_link(hold.reference or "", show),
                cells.instant(hold.created_at, zone=zone),
                cells.instant(hold.expires_at, zone=zone),
                cells.amount(hold.captured_minor, hold.currency),
                cells.amount(hold.remaining_minor, hold.currency),
            ]
            for hold in holds
        ],
        more_url=holds_url(account),
        note="What is pending out, by what reserved it."
        if len(found) <= HOLDS_SHOWN
        else f"The newest {HOLDS_SHOWN} of what is pending out.",
    )


def _other(hold: HeldView, account: LedgerAccount) -> UUID:
    """Return the account for which money of this one is reserved."""
    is_debited = hold.debit_account_id == account.id
    return hold.credit_account_id if is_debited else hold.debit_account_id


def reference_link(text: str, show: Callable[[str], SafeString]) -> SafeString:
    """Show a reference; one of Kassa's own acts, `payout:po_…:hold`, as what leads to its page."""
    named = next((part for part in text.split(":") if "_" in part[:5]), "")
    return show(named) if named and ":" in text else cells.cut(text, head=9, tail=6)
