"""Staff screens of the books: read, never written. A correction is a new entry."""

from collections.abc import Sequence
from typing import Any, ClassVar, override
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Filter, Keyset, RecordAdmin, Table, cells, lists, shown, zone_of
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.models import JournalEntry, LedgerAccount
from apps.ledger.queries import BalanceView, EntryView
from apps.ledger.rules import AccountType

STATEMENT_ROWS = 50


ID_LENGTH_MIN = 20


def short_code(code: str) -> str:
    """Return a code with the ids in it cut: `customers:cus_01m8…z3kq:available:EUR`."""
    return ":".join(
        part if len(part) < ID_LENGTH_MIN else f"{part[:8]}…{part[-4:]}" for part in code.split(":")
    )


def account_link(account_id: UUID, code: str) -> SafeString:
    """Link to an account's statement."""
    url = reverse("admin:ledger_ledgeraccount_change", args=[encode_id("la", account_id)])
    return cells.link(url, short_code(code))


def entry_link(entry_id: UUID) -> SafeString:
    """Link to a journal entry."""
    url = reverse("admin:ledger_journalentry_change", args=[encode_id("je", entry_id)])
    return cells.short_id("je", entry_id, url=url)


@admin.register(LedgerAccount)
class LedgerAccountAdmin(RecordAdmin[LedgerAccount]):
    """Where money stands; an account's page is its statement."""

    view_capability = "ledger.view_ledger"
    prefix = "la"
    aggregate_type = "ledger_account"
    keyset = Keyset(columns=("organization_id", "code"), descending=False)
    intro = "Where money stands, each account on its normal side."
    empty = "No account has been opened yet; the first customer or bank account opens some."
    search_hint = "la_… or the whole code"
    list_display = ("path", "kind", "posted", "pending_out", "available", "floor", "status")
    filters: ClassVar[Sequence[Filter]] = (
        lists.prefix("code", "Code begins with", placeholder="customers:"),
        lists.choice("type", [(kind.value, kind.value) for kind in AccountType]),
        lists.exact("currency", "Currency", placeholder="EUR"),
    )
    facts = ("id", "whole_code", "kind", "posted", "pending_out", "pending_in", "floor", "status")

    @override
    def headline(self, obj: LedgerAccount) -> str:
        return short_code(obj.code)

    @override
    def lead(self, obj: LedgerAccount) -> Sequence[SafeString]:
        return [self.available(obj), cells.text("available")]

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[LedgerAccount], text: str
    ) -> QuerySet[LedgerAccount]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(code=text)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[LedgerAccount]) -> None:
        views = {view.account_id: view for view in queries.view_balances(rows)}
        for row in rows:
            row.view = views[row.id]  # type: ignore[attr-defined]  # attached for the cells

    @shown("Account")
    def path(self, obj: LedgerAccount) -> SafeString:
        return account_link(obj.id, obj.code)

    @shown("Code")
    def whole_code(self, obj: LedgerAccount) -> SafeString:
        return cells.cut(obj.code, head=16, tail=12)

    @shown("Type")
    def kind(self, obj: LedgerAccount) -> SafeString:
        return cells.text(obj.type)

    @shown(align="end")
    def posted(self, obj: LedgerAccount) -> SafeString:
        return cells.amount(_view(obj).posted, obj.currency)

    @shown(align="end")
    def pending_out(self, obj: LedgerAccount) -> SafeString:
        return cells.amount(_view(obj).pending_out, obj.currency)

    @shown(align="end")
    def pending_in(self, obj: LedgerAccount) -> SafeString:
        return cells.amount(_view(obj).pending_in, obj.currency)

    @shown(align="end")
    def available(self, obj: LedgerAccount) -> SafeString:
        return cells.amount(_view(obj).available, obj.currency)

    @shown(align="end")
    def floor(self, obj: LedgerAccount) -> SafeString:
        return cells.amount(_view(obj).min_available_minor, obj.currency)

    def status(self, obj: LedgerAccount) -> SafeString:
        return cells.state(_view(obj).status, tone="good" if _view(obj).status == "open" else "")

    @override
    def get_tables(self, request: HttpRequest, obj: LedgerAccount) -> list[Table]:
        before = request.GET.get("before_posting", "")
        lines = queries.account_statement(
            organization_id=obj.organization_id,
            account_id=obj.id,
            before_version=int(before) if before.isdecimal() else None,
            limit=STATEMENT_ROWS,
        )
        zone = zone_of(obj)
        oldest = lines[-1].account_version if lines else 1
        return [
            Table(
                "Statement",
                ("Business time", "Kind", "Reference", "What", "Entry", ">Amount", ">Balance"),
                [
                    [
                        cells.instant(line.effective_at, zone=zone),
                        cells.code(line.kind),
                        cells.cut(line.reference or "", head=14, tail=8),
                        cells.text(line.description),
                        entry_link(line.entry_id),
                        cells.amount(
                            _on_normal_side(obj, line.amount_minor), obj.currency, colored=True
                        ),
                        cells.amount(line.balance_after_minor, obj.currency),
                    ]
                    for line in lines
                ],
                empty="Nothing was posted here yet.",
                note="In the order of posting, newest first; the balance is the one after each.",
                more_url=f"?before_posting={oldest}" if oldest > 1 else "",
                more_label="Older postings",
            )
        ]


def _view(obj: LedgerAccount) -> BalanceView:
    view: BalanceView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view


def _on_normal_side(account: LedgerAccount, amount_minor: int) -> int:
    return amount_minor if account.type in {"asset", "expense"} else -amount_minor


@admin.register(JournalEntry)
class JournalEntryAdmin(RecordAdmin[JournalEntry]):
    """What moved money."""

    view_capability = "ledger.view_ledger"
    prefix = "je"
    aggregate_type = "journal_entry"
    title = "Journal"
    intro = "What moved money. An entry is never changed; a correction is a new one."
    empty = "Nothing was posted yet."
    search_hint = "je_… or the whole reference"
    list_display = ("id", "effective_at", "what", "from_to", "moved", "reference_cell", "who")
    facts = (
        "id",
        "what",
        "reference_cell",
        "description",
        "effective_at",
        "recorded_at",
        "who",
        "reversal",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.exact("kind", "Kind", placeholder="transfer"),
        lists.since("effective_at", "Business time", now=clock.now, default=""),
    )

    @override
    def headline(self, obj: JournalEntry) -> str:
        return f"Journal entry {self.key_of(obj)}"

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[JournalEntry], text: str
    ) -> QuerySet[JournalEntry]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(reference=text)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[JournalEntry]) -> None:
        by_organization: dict[UUID, list[JournalEntry]] = {}
        for row in rows:
            by_organization.setdefault(row.organization_id, []).append(row)
        for organization_id, own in by_organization.items():
            views = queries.view_entries(organization_id=organization_id, entries=own)
            for row, view in zip(own, views, strict=True):
                row.view = view  # type: ignore[attr-defined]  # attached for the cells
        self.admin_site.name_people(request, rows)  # type: ignore[attr-defined]  # our site's

    def what(self, obj: JournalEntry) -> SafeString:
        return cells.code(obj.kind)

    @shown("Reference")
    def reference_cell(self, obj: JournalEntry) -> SafeString:
        return cells.cut(obj.reference or "", head=14, tail=8)

    @shown("Accounts")
    def from_to(self, obj: JournalEntry) -> SafeString:
        postings = _entry(obj).postings
        first = postings[0]
        more = f" and {len(postings) - 2} more" if len(postings) > 2 else ""  # noqa: PLR2004
        other = next((p for p in postings if p is not first), first)
        return cells.text(f"{_branch(first.code)} / {_branch(other.code)}{more}")

    @shown("Amount", align="end")
    def moved(self, obj: JournalEntry) -> SafeString:
        postings = _entry(obj).postings
        total = sum(posting.amount_minor for posting in postings if posting.amount_minor > 0)
        return cells.amount(total, postings[0].currency)

    def who(self, obj: JournalEntry) -> SafeString:
        return cells.text(getattr(obj, "person", "") or obj.actor.split(":")[0].replace("_", " "))

    def reversal(self, obj: JournalEntry) -> SafeString:
        view = _entry(obj)
        if view.reversed_by is not None:
            return entry_link(view.reversed_by)
        return entry_link(obj.reverses_id) if obj.reverses_id else cells.NONE

    @override
    def get_tables(self, request: HttpRequest, obj: JournalEntry) -> list[Table]:
        postings = _entry(obj).postings
        return [
            Table(
                "Postings",
                ("Account", ">Debit", ">Credit", ">Balance after"),
                [
                    [
                        account_link(posting.account_id, posting.code),
                        _side(posting.amount_minor, posting.currency),
                        _side(-posting.amount_minor, posting.currency),
                        cells.amount(posting.balance_after_minor, posting.currency),
                    ]
                    for posting in postings
                ],
                totals=_totals(postings),
                note="Debits equal credits; Postgres refuses anything else.",
            )
        ]


def _entry(obj: JournalEntry) -> EntryView:
    view: EntryView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view


def _side(amount_minor: int, currency: str) -> SafeString | str:
    return cells.amount(amount_minor, currency) if amount_minor > 0 else ""


def _totals(postings: Sequence[Any]) -> list[SafeString | str]:
    total = sum(posting.amount_minor for posting in postings if posting.amount_minor > 0)
    shown = cells.amount(total, postings[0].currency)
    return ["Sum", shown, shown, ""]


def _branch(code: str) -> str:
    """Return a code without the ids in it: whose it is stands on the entry's own page."""
    return ":".join(part for part in code.split(":") if len(part) < ID_LENGTH_MIN)
