"""The journal: what moved money. A correction is a new entry."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
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
    people,
    shown,
    zone_of,
)
from apps.core.admin_base.lists import PAGE_ROWS
from apps.ledger import queries
from apps.ledger.admin import _finding
from apps.ledger.admin._corrections import (
    ADJUST,
    ADJUST_ANYWHERE,
    REVERSE,
    debits,
)
from apps.ledger.admin._finding import Asked
from apps.ledger.admin._links import (
    account_link,
    by_hand,
    entry_link,
    exchange_of,
    metadata_pairs,
    posted_link,
    waiting_reversal,
)
from apps.ledger.models import JournalEntry
from apps.ledger.queries import Ask, EntryView, MetadataVersion

if TYPE_CHECKING:
    from uuid import UUID

    from apps.ledger.registry import ByHand

VERSIONS_SHOWN = 20
DESCRIPTION_SHOWN = 60


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
    filters: ClassVar[Sequence[Filter]] = _finding.FILTERS
    acts = (REVERSE, ADJUST, ADJUST_ANYWHERE)

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[JournalEntry]) -> QuerySet[JournalEntry]:
        # By name, also for those who see all: the key of the table begins with the organization,
        # and an id alone would be looked for in every row.
        seen = self.admin_site.organizations(request)  # type: ignore[attr-defined]  # our site's
        return super().scope(request, rows).filter(organization_id__in=[one.id for one in seen])

    # --- What is looked for ---------------------------------------------------------------------

    @override
    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Name the organization that is searched: a search is of one journal."""
        own = super().get_filters(request)
        if not _finding.is_asked(request.GET):
            return own
        return _finding.of_one_organization(own)

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
        seen: list[Organization] = self.admin_site.organizations(request)  # type: ignore[attr-defined]  # our site's
        return _finding.named_organization(request.GET, seen)

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
    def prepare(self, request: HttpRequest, rows: Sequence[JournalEntry]) -> None:
        self._attach(rows)

    @override
    def prepare_page(self, request: HttpRequest, obj: JournalEntry) -> None:
        found = by_hand(obj)
        asked = [found.requested_by, found.approved_by] if found else []
        obj.people = self._attach([obj], also=asked)  # type: ignore[attr-defined]  # for its page
        obj.by_hand = found  # type: ignore[attr-defined]  # likewise

    @staticmethod
    def _attach(rows: Sequence[JournalEntry], *, also: Sequence[str] = ()) -> Mapping[str, str]:
        """Attach what the cells show; return the names of who posted them, and of others."""
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
        names = people([*(row.actor for row in rows), *also])
        for row in rows:
            row.person = names.get(row.actor, "")  # type: ignore[attr-defined]  # for the cells
        return names

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
        words = getattr(obj, "person", "") or _kind_of(obj.actor)
        return cells.link(f"{reverse('admin:ledger_journalentry_changelist')}?{query}", words)

    @override
    def get_facts(self, request: HttpRequest, obj: JournalEntry) -> list[Fact]:
        return [
            *super().get_facts(request, obj),
            _reversal(obj),
            *_by_hand(obj),
            *_captured(obj),
            *_exchange(obj),
            *_waiting(obj),
            Fact("Seal", _seal(obj), wide=True),
            Fact("Description", cells.free_text(obj.description or ""), wide=True),
        ]

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
            ),
            _metadata(obj),
        ]


def _metadata(obj: JournalEntry) -> Table:
    """Return what was said of an entry, and by whom: the newest counts, the first is its own."""
    found = [MetadataVersion(0, obj.metadata, obj.actor, obj.recorded_at)]
    if _entry(obj).annotations:
        found = queries.list_entry_metadata(
            organization_id=obj.organization_id, entry_id=obj.id, limit=VERSIONS_SHOWN + 1
        )
    given = [one for one in found[:VERSIONS_SHOWN] if one.number or one.metadata]
    # Who posted the entry was looked up with it.
    names = people([one.actor for one in given if one.actor != obj.actor])
    names |= {obj.actor: getattr(obj, "person", "")}
    zone = zone_of(obj)
    return Table(
        "Metadata",
        (">Version", "Given", "By", "Keys and values"),
        [
            [
                cells.number(one.number),
                cells.instant(one.recorded_at, zone=zone),
                cells.text(names.get(one.actor) or _kind_of(one.actor)),
                metadata_pairs(one.metadata) if one.metadata else cells.text("taken away"),
            ]
            for one in given
        ],
        empty="Nothing was said of it.",
        note="The highest version counts; 0 is what the entry was posted with, and stays."
        + (" Older ones are not shown." if len(found) > VERSIONS_SHOWN else ""),
    )


def _kind_of(actor: str) -> str:
    # What a job is called stands in the entry's kind; which key it was, on no list.
    kind = actor.split(":", maxsplit=1)[0]
    return {"api_key": "API key"}.get(kind, kind.replace("_", " "))


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


def _reversal(obj: JournalEntry) -> Fact:
    """Return which entry this one took back, or which one took it back: never both."""
    if obj.reverses_id is not None:
        return Fact("Reverses", entry_link(obj.reverses_id))
    undone_by = _entry(obj).reversed_by
    return Fact("Reversed by", entry_link(undone_by) if undone_by is not None else cells.NONE)


def _by_hand(obj: JournalEntry) -> list[Fact]:
    """Return who asked for an entry posted by hand, and who agreed to it."""
    found: ByHand | None = obj.by_hand  # type: ignore[attr-defined]  # attached by prepare
    if found is None:
        return []
    names: Mapping[str, str] = obj.people  # type: ignore[attr-defined]  # attached by prepare
    zone = zone_of(obj)
    return [
        Fact("Correction", cells.row_link("backoffice_correction", "cor", found.correction_id)),
        Fact("Asked by", cells.done_by(found.requested_by, names, found.requested_at, zone=zone)),
        Fact("Agreed by", cells.done_by(found.approved_by, names, found.approved_at, zone=zone)),
    ]


def _captured(obj: JournalEntry) -> list[Fact]:
    """Return the hold that it captured, or part of, if it did."""
    hold = _entry(obj).hold
    return [] if hold is None else [Fact("Captured of", cells.row_link("ledger_hold", "ho", hold))]


def _exchange(obj: JournalEntry) -> list[Fact]:
    """Return what was changed into what, by whose quote, and the entry of the other side."""
    fx = exchange_of(obj)
    if fx is None:
        return []
    sold = cells.amount(fx.sold_minor, fx.sold_currency)
    bought = cells.amount(fx.bought_minor, fx.bought_currency)
    rate = f"{fx.rate.normalize():f}"
    other = fx.bought_entry_id if obj.id == fx.sold_entry_id else fx.sold_entry_id
    quoted_at = cells.instant(fx.quoted_at, zone=zone_of(obj))
    left = (
        f"{fx.remainder_minor.normalize():f} of a minor unit" if fx.remainder_minor else "nothing"
    )
    return [
        Fact("Exchange", format_html("{} for {} at {}", sold, bought, rate), wide=True),
        Fact("Quoted", format_html("{} by {}", quoted_at, cells.free_text(fx.source)), wide=True),
        Fact("Left by rounding", cells.text(left)),
        Fact("Its other side", entry_link(other)),
    ]


def _waiting(obj: JournalEntry) -> list[Fact]:
    """Return the approval that waits for it to be undone, if one does."""
    request_id = waiting_reversal(obj)
    if request_id is None:
        return []
    link = cells.row_link("approvals_approvalrequest", "apr", request_id)
    return [Fact("Its reversal waits", link)]


def _seal(obj: JournalEntry) -> SafeString:
    """Show an entry's place in the audit chain and the hash there, or that it has none yet."""
    link = queries.find_link(organization_id=obj.organization_id, entry_id=obj.id)
    if link is None:
        return cells.state("not_sealed", label="not yet sealed", tone="busy")
    position, hash_ = link
    return format_html("No. {} {}", cells.number(position), cells.code(hash_.hex()))


def _entry(obj: JournalEntry) -> EntryView:
    view: EntryView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view


def _side(amount_minor: int, currency: str) -> SafeString | str:
    return cells.amount(amount_minor, currency) if amount_minor > 0 else ""


def _totals(postings: Sequence[Any]) -> list[SafeString | str]:
    shown = cells.amounts(debits(postings))
    return ["Sum", shown, shown, ""]
