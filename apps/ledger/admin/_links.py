"""Codes as people read them, and what one screen of the books links to on others."""

from collections.abc import Mapping
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from apps.core.admin_base import cells
from apps.core.ids import encode_id
from apps.core.text import mask_ibans
from apps.ledger.models import LedgerAccount
from apps.ledger.queries import PostingView

ID_LENGTH_MIN = 20
_BREAK = mark_safe("<wbr>")


def short_code(code: str) -> str:
    """Return a code with the ids in it cut: `customers:cus_01m8…z3kq:available:EUR`."""
    return ":".join(
        part if len(part) < ID_LENGTH_MIN else f"{part[:8]}…{part[-4:]}" for part in code.split(":")
    )


def account_link(account_id: UUID, code: str) -> SafeString:
    """Link to an account's statement, under a code that breaks before an id and never within."""
    url = reverse("admin:ledger_ledgeraccount_change", args=[encode_id("la", account_id)])
    parts = mask_ibans(short_code(code)).split(":")
    label = format_html_join(":", "{}{}", [(_BREAK if "…" in part else "", part) for part in parts])
    return format_html('<a class="k-path" href="{}">{}</a>', url, label)


def posted_link(posting: PostingView) -> SafeString:
    """Link to a posting's account, by its code without the currency, which its amount names."""
    return account_link(posting.account_id, posting.code.removesuffix(f":{posting.currency}"))


def entry_link(entry_id: UUID) -> SafeString:
    """Link to a journal entry."""
    url = reverse("admin:ledger_journalentry_change", args=[encode_id("je", entry_id)])
    return cells.short_id("je", entry_id, url=url)


def journal_url(account: LedgerAccount) -> str:
    """Return where every entry of an account is, newest first, to be searched further."""
    return _of_account("ledger_journalentry", account)


def holds_url(account: LedgerAccount) -> str:
    """Return where every hold on an account's money is, whatever became of it, newest first."""
    return _of_account("ledger_hold", account, status="all")


def _of_account(screen: str, account: LedgerAccount, **more: str) -> str:
    query = {"organization": str(account.organization_id), "account": encode_id("la", account.id)}
    return f"{reverse(f'admin:{screen}_changelist')}?{urlencode(query | more)}"


def metadata_pairs(metadata: Mapping[str, object]) -> SafeString:
    """Draw what a client wrote, account numbers in it masked."""
    pairs = [
        (cells.code(key), cells.free_text(str(value))) for key, value in sorted(metadata.items())
    ]
    return format_html_join(", ", "{} {}", pairs) or cells.NONE
