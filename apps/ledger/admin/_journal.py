"""The journal: what moved money. A correction is a new entry."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import (
    Fact,
    Filter,
    RecordAdmin,
    Table,
    cells,
    for_staff,
    lists,
    people,
    shown,
    zone_of,
)
from apps.core.admin_base.lists import PAGE_ROWS
from apps.ledger import queries
from apps.ledger.admin import _entry_page, _finding
from apps.ledger.admin._corrections import (
    ADJUST,
    ADJUST_ANYWHERE,
    REVERSE,
    debits,
)
from apps.ledger.admin._finding import Asked
from apps.ledger.admin._links import posted_link
from apps.ledger.models import JournalEntry
from apps.ledger.queries import Ask, EntryView

if TYPE_CHECKING:
    from uuid import UUID

DESCRIPTION_SHOWN = 60


def _seen(request: HttpRequest) -> QuerySet[Organization, Any]:
    return for_staff(request.user, Organization.objects.order_by(), column="id").values("id")


@admin.register(JournalEntry)
class JournalEntryAdmin(RecordAdmin[JournalEntry]):
    """What moved money."""

    view_capability = "ledger.view_ledger"
    # No index leads to an entry's event by its aggregate (ADR 0056), which says less than the page.
    prefix = "je"
    title = "Journal"
    intro = "What moved money. An entry is never changed; a correction is a new one."
    empty = "Nothing was posted yet."
    search_hint = "je_… or the whole reference"
    list_display = ("id", "business_time", "what", "from_to", "moved", "said", "who")
    facts = (
        "id",
        "what",
        "reference_cell",
        "business_time",
        "recorded_at",
        "who",
    )
    is_ordered_by_organization = True
    filters: ClassVar[Sequence[Filter]] = _finding.FILTERS
    acts = (REVERSE, ADJUST, ADJUST_ANYWHERE)

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[JournalEntry]) -> QuerySet[JournalEntry]:
        # Also for those who see all: the key of the table begins with the organization, and an id
        # alone would be looked for in every row.
        return rows.filter(organization_id__in=_seen(request))

    # --- What is looked for ---------------------------------------------------------------------

    @override
    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Name the organization that is searched: a search is of one journal."""
        own = super().get_filters(request)
        if not _finding.is_asked(request.GET):
            return own
        return lists.of_one_organization(own)

    @override
    def get_page(
        self, request: HttpRequest, rows: QuerySet[JournalEntry]
    ) -> tuple[list[JournalEntry], str, str]:
        organization, asked = self._searched(request)
        if organization is None:
            return super().get_page(request, rows)
        if asked.search is None:
            return [], "", ""
        after, before = request.GET.get("after", ""), request.GET.get("before", "")
        place = _finding.place_of(after or before, asked.search)
        ask = Ask(PAGE_ROWS, place, newer=bool(before) and not after)
        found = queries.list_entries(search=asked.search, ask=ask)
        page = [_row(view, organization) for view in found.rows]
        return page, _finding.printed(found.newer), _finding.printed(found.older)

    def _searched(self, request: HttpRequest) -> tuple[Organization | None, Asked]:
        """Return whose journal is searched, and for what; nobody's where the list is as it is."""
        known: tuple[Organization | None, Asked] | None = getattr(request, "kassa_searched", None)
        if known is None:
            organization = self._organization(request)
            asked = Asked(None)
            if organization is not None:
                asked = _finding.read(request.GET, organization, now=clock.now())
            known = organization, asked
            request.kassa_searched = known  # type: ignore[attr-defined]  # kept for the request
        return known

    def _organization(self, request: HttpRequest) -> Organization | None:
        if request.GET.get("q") or not _finding.is_asked(request.GET):
            return None
        chosen: Organization | None = self.admin_site.chosen_organization(request)  # type: ignore[attr-defined]  # our site's
        return chosen

    @override
    def total(
        self,
        request: HttpRequest,
        rows: QuerySet[JournalEntry],
        page: list[JournalEntry],
        previous: str,
        following: str,
    ) -> str:
        organization, _ = self._searched(request)
        if organization is None or not (previous or following):
            return super().total(request, rows, page, previous, following)
        return f"{len(page):,} {'row' if len(page) == 1 else 'rows'} on this page"

    @override
    def list_extra(self, request: HttpRequest) -> dict[str, Any]:
        return {"notice": self._searched(request)[1].notice}

    # --- What is shown --------------------------------------------------------------------------

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
    def rows_of_pages(self, request: HttpRequest) -> QuerySet[JournalEntry]:
        # Each organization seen is looked into by the key, with none of them read before.
        rows = JournalEntry.objects.select_related("organization")
        return rows.filter(organization_id__in=_seen(request))

    @override
    def prepare_page(self, request: HttpRequest, obj: JournalEntry) -> None:
        _entry_page.prepare(obj)

    @override
    def actors_of(self, obj: JournalEntry) -> Sequence[str]:
        return _entry_page.actors_of(obj)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[JournalEntry]) -> None:
        by_organization: dict[UUID, list[JournalEntry]] = {}
        for row in rows:
            if hasattr(row, "view"):
                # A search brought it along.
                continue
            by_organization.setdefault(row.organization_id, []).append(row)
        for organization_id, own in by_organization.items():
            views = queries.view_entries(organization_id=organization_id, entries=own)
            for row, view in zip(own, views, strict=True):
                row.view = view  # type: ignore[attr-defined]  # attached for the cells
        names = people([row.actor for row in rows])
        for row in rows:
            row.names = names  # type: ignore[attr-defined]  # attached for the cells

    @shown("Business time")
    def business_time(self, obj: JournalEntry) -> SafeString:
        return cells.instant(obj.effective_at, zone=zone_of(obj))

    @shown("Kind")
    def what(self, obj: JournalEntry) -> SafeString:
        return cells.code(obj.kind)

    @shown("Reference")
    def reference_cell(self, obj: JournalEntry) -> SafeString:
        return cells.cut(obj.reference or "", head=9, tail=6)

    @shown("Reference, description")
    def said(self, obj: JournalEntry) -> SafeString:
        """Show what its maker called it: on a list not much of it, on its own page the whole."""
        parts = [self.reference_cell(obj)] if obj.reference else []
        if obj.description:
            parts.append(cells.free_text(obj.description, at_most=DESCRIPTION_SHOWN))
        return format_html_join(mark_safe("<br>"), "{}", [(part,) for part in parts]) or cells.NONE

    @shown("Accounts")
    def from_to(self, obj: JournalEntry) -> SafeString:
        first, *others = _entry(obj).postings
        lines = [posted_link(first), *map(posted_link, others[:1])]
        if len(others) > 1:
            lines.append(cells.text(f"and {len(others) - 1} more"))
        return format_html_join(mark_safe("<br>"), "{}", [(line,) for line in lines])

    @shown("Amount", align="end")
    def moved(self, obj: JournalEntry) -> SafeString:
        return cells.amounts(debits(_entry(obj).postings))

    def who(self, obj: JournalEntry) -> SafeString:
        query = urlencode({"organization": str(obj.organization_id), "actor": obj.actor})
        url = f"{reverse('admin:ledger_journalentry_changelist')}?{query}"
        return cells.link(url, _entry_page.who(obj, obj.actor))

    @override
    def get_facts(self, request: HttpRequest, obj: JournalEntry) -> list[Fact]:
        return [*super().get_facts(request, obj), *_entry_page.facts(obj)]

    @override
    def get_tables(self, request: HttpRequest, obj: JournalEntry) -> list[Table]:
        return _entry_page.tables(obj)


def _row(view: EntryView, organization: Organization) -> JournalEntry:
    """Return a found entry as a row of the list; nothing more is read for it."""
    row = JournalEntry(
        id=view.id,
        organization=organization,
        kind=view.kind,
        reference=view.reference,
        description=view.description,
        effective_at=view.effective_at,
        recorded_at=view.recorded_at,
        reverses_id=view.reverses,
        actor=view.actor,
    )
    row.view = view  # type: ignore[attr-defined]  # attached for the cells
    return row


def _entry(obj: JournalEntry) -> EntryView:
    view: EntryView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view
