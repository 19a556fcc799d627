"""The journal: what moved money. A correction is a new entry."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Filter, RecordAdmin, Table, cells, lists, shown
from apps.ledger import queries
from apps.ledger.admin._corrections import ADJUST, ADJUST_ANYWHERE, REVERSE, debits
from apps.ledger.admin._links import account_link, branch_of, entry_link
from apps.ledger.models import JournalEntry
from apps.ledger.queries import EntryView

if TYPE_CHECKING:
    from uuid import UUID


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
    acts = (REVERSE, ADJUST, ADJUST_ANYWHERE)

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[JournalEntry]) -> QuerySet[JournalEntry]:
        # By name, also for those who see all: the key of the table begins with the organization,
        # and an id alone would be looked for in every row.
        seen = self.admin_site.organizations(request)  # type: ignore[attr-defined]  # our site's
        return super().scope(request, rows).filter(organization_id__in=[one.id for one in seen])

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
        return cells.text(f"{branch_of(first.code)} / {branch_of(other.code)}{more}")

    @shown("Amount", align="end")
    def moved(self, obj: JournalEntry) -> SafeString:
        return cells.amounts(debits(_entry(obj).postings))

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
    shown = cells.amounts(debits(postings))
    return ["Sum", shown, shown, ""]
