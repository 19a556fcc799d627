"""Holds: what reserves money in the books, and what became of it. Clients place and end them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import (
    Fact,
    Filter,
    Keyset,
    RecordAdmin,
    Table,
    actor_words,
    cells,
    lists,
    people,
    shown,
    zone_of,
)
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.admin import _finding
from apps.ledger.admin._holds import reference_link
from apps.ledger.admin._links import account_link, entry_link, metadata_pairs
from apps.ledger.models import Hold, LedgerAccount
from apps.ledger.queries import HoldEventView, HoldSearch, HoldView, Window
from apps.ledger.rules import CREDIT_NORMAL, HoldStatus

EVENTS_SHOWN: Final = 100
# Most holds have ended, and no index tells how, or when they were to: they are looked for on an
# account, or so far back.
ENDED_DAYS: Final = 92
_BY_PLACING: Final = Keyset(columns=("created_at",))
_WIDE: Final = frozenset({"From", "To"})
_OPEN: Final = HoldStatus.OPEN.value
_STATUS: Final = lists.searched(
    "status", "Status", choices=[(one.value, one.value.capitalize()) for one in HoldStatus]
)


@admin.register(Hold)
class HoldAdmin(RecordAdmin[Hold]):
    """What reserves money."""

    view_capability = "ledger.view_ledger"
    # What its events say stands on its page, from rows that are kept for ever.
    prefix = "ho"
    title = "Holds"
    intro = (
        "Money reserved in the books: out of what is available, and not yet posted. Past its time"
        " a hold is over at once."
    )
    empty = "No money is reserved now. Payouts reserve theirs; clients do so over the API."
    search_hint = "ho_… or the whole reference"
    related = ("organization", "debit_account", "credit_account")
    list_display = ("id", "from_to", "said", "amount", "captured", "remaining", "status", "times")
    facts = (
        "id", "money_from", "money_to", "amount", "captured", "remaining", "ways", "said",
        "created_at", "expires_at",
    )  # fmt: skip
    filters: ClassVar[Sequence[Filter]] = (
        replace(_STATUS, default=_OPEN),
        lists.searched("account", "On money of", placeholder="la_… or the whole code"),
        lists.searched("placed_from", "Placed from", input_type="date"),
        lists.searched("placed_until", "Placed until", input_type="date"),
        lists.searched("expires_from", "Expires from", input_type="date"),
        lists.searched("expires_until", "Expires until", input_type="date"),
    )
    tones: ClassVar = {_OPEN: "busy", "captured": "good", "expired": "warn"}

    # --- What is looked for ----------------------------------------------------------------------

    @override
    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Name the organization that is searched, where more is asked than what is open."""
        own = super().get_filters(request)
        if not self._is_asked(request):
            return own
        return lists.of_one_organization(own)

    @override
    def _narrow(self, request: HttpRequest) -> tuple[QuerySet[Hold], list[tuple[Filter, str]]]:
        rows, chosen = super()._narrow(request)
        if lists.typed(request.GET.get("q", "")):
            return rows, chosen
        if not self._is_asked(request):
            return rows.filter(queries.hold_has_status(_OPEN, now=clock.now())), chosen
        organization = self._organization(request)
        search, notice = None, ""
        if organization is not None:
            search, notice = self._read(request, organization)
        request.kassa_notice = notice  # type: ignore[attr-defined]  # kept for the request
        if organization is None or search is None:
            return rows.none(), chosen
        request.kassa_by_placing = search.account_id is None and not search.created.is_open  # type: ignore[attr-defined]  # kept for the request
        found = queries.holds(organization_id=organization.id, search=search, now=clock.now())
        return found.select_related(*self.related), chosen

    @override
    def get_page(self, request: HttpRequest, rows: QuerySet[Hold]) -> tuple[list[Hold], str, str]:
        # By the ids all that is newer than a window would be read first (docs/adr/0170).
        keyset = _BY_PLACING if getattr(request, "kassa_by_placing", False) else self.keyset
        query = request.GET
        return keyset.page(rows, after=query.get("after", ""), before=query.get("before", ""))

    def _is_asked(self, request: HttpRequest) -> bool:
        """Say whether more is asked for than what is open now."""
        typed = {one.name: lists.typed(request.GET.get(one.name, "")) for one in self.filters}
        return typed.pop("status") not in {"", _OPEN} or any(typed.values())

    def _organization(self, request: HttpRequest) -> Organization | None:
        chosen: Organization | None = self.admin_site.chosen_organization(request)  # type: ignore[attr-defined]  # our site's
        return chosen

    def _read(
        self, request: HttpRequest, organization: Organization
    ) -> tuple[HoldSearch | None, str]:
        """Return what the filters ask for, and what a person should know of it."""
        typed = {one.name: one.chosen(request.GET) for one in self.filters}
        try:
            account_id, _ = _finding.account_of(organization.id, typed["account"])
            search = HoldSearch(
                account_id=account_id,
                status=None if typed["status"] == "all" else typed["status"],
                created=_finding.window_of(typed, "placed", organization.time_zone),
                expires=_finding.window_of(typed, "expires", organization.time_zone),
            )
        except _finding.NotReadable as wrong:
            return None, str(wrong)
        return _bounded(search)

    @override
    def find(self, request: HttpRequest, rows: QuerySet[Hold], text: str) -> QuerySet[Hold]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        # By name, also for those who see all: the index of references begins with it.
        seen = self.admin_site.all_organization_ids(request)  # type: ignore[attr-defined]  # our site's
        return rows.filter(organization_id__in=seen, reference=text)

    @override
    def list_extra(self, request: HttpRequest) -> dict[str, Any]:
        return {"notice": getattr(request, "kassa_notice", "")}

    @override
    def total(
        self, request: HttpRequest, rows: QuerySet[Hold], page: list[Hold], previous: str,
        following: str,
    ) -> str:  # fmt: skip
        # What Postgres knows of the table counts what has ended too.
        is_known = request.GET.get("count") or not (previous or following)
        return super().total(request, rows, page, previous, following) if is_known else ""

    # --- What is shown ---------------------------------------------------------------------------

    @override
    def headline(self, obj: Hold) -> str:
        return f"Hold {self.key_of(obj)}"

    @override
    def lead(self, obj: Hold) -> Sequence[SafeString]:
        return [self.status(obj), self.remaining(obj), cells.text("held")]

    @override
    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Hold | None:
        """Return the row of a page, with what happened to it: as of one instant."""
        obj = super().get_object(request, object_id, from_field)
        if obj is not None:
            obj.view, obj.happened = queries.hold_with_first_events(  # type: ignore[attr-defined]  # attached for its page
                organization_id=obj.organization_id,
                hold_id=obj.id,
                now=clock.now(),
                limit=EVENTS_SHOWN + 1,
            )
        return obj

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[Hold]) -> None:
        now = clock.now()
        for row in rows:
            if not hasattr(row, "view"):
                row.view = queries.view_hold(row, now=now)  # type: ignore[attr-defined]  # attached for the cells

    @shown("From \u2192 to")
    def from_to(self, obj: Hold) -> SafeString:
        payer, payee = (
            account_link(one.id, one.code.removesuffix(f":{obj.currency}")) for one in _sides(obj)
        )
        return format_html("{}<br>\u2192 {}", payer, payee)

    @shown("Placed, expires")
    def times(self, obj: Hold) -> SafeString:
        return format_html("{}<br>{}", self.created_at(obj), self.expires_at(obj))

    @shown("From")
    def money_from(self, obj: Hold) -> SafeString:
        payer, _ = _sides(obj)
        return account_link(payer.id, payer.code)

    @shown("To")
    def money_to(self, obj: Hold) -> SafeString:
        _, payee = _sides(obj)
        return account_link(payee.id, payee.code)

    @shown("Reference")
    def said(self, obj: Hold) -> SafeString:
        return reference_link(obj.reference or "", self.admin_site.autolink)  # type: ignore[attr-defined]  # our site's

    @shown(align="end")
    def amount(self, obj: Hold) -> SafeString:
        return cells.amount(obj.amount_minor, obj.currency)

    @shown(align="end")
    def captured(self, obj: Hold) -> SafeString:
        return cells.amount(_view(obj).captured_minor, obj.currency)

    @shown("Held", align="end")
    def remaining(self, obj: Hold) -> SafeString:
        return cells.amount(_view(obj).remaining_minor, obj.currency)

    def status(self, obj: Hold) -> SafeString:
        status = _view(obj).status
        return cells.state(status, tone=self.tones.get(status, ""))

    @shown("Captures")
    def ways(self, obj: Hold) -> SafeString:
        return cells.text("in parts" if obj.multi_capture else "once, and frees the rest")

    @shown("Placed")
    def created_at(self, obj: Hold) -> SafeString:
        return cells.instant(obj.created_at, zone=zone_of(obj))

    @shown("Expires")
    def expires_at(self, obj: Hold) -> SafeString:
        return cells.instant(obj.expires_at, zone=zone_of(obj))

    @override
    def get_facts(self, request: HttpRequest, obj: Hold) -> list[Fact]:
        return [
            # A code is as wide as a small screen.
            *(replace(one, wide=one.title in _WIDE) for one in super().get_facts(request, obj)),
            Fact("Organization", cells.text(obj.organization)),
            Fact("Metadata", metadata_pairs(obj.metadata), wide=True),
        ]

    @override
    def get_tables(self, request: HttpRequest, obj: Hold) -> list[Table]:
        happened: list[HoldEventView] = obj.happened  # type: ignore[attr-defined]  # attached by get_object
        return [_timeline(obj, happened)]


def _timeline(obj: Hold, happened: Sequence[HoldEventView]) -> Table:
    """Return what happened to a hold, in its order, and what each capture posted."""
    actors = queries.actors_of_hold(
        organization_id=obj.organization_id, hold_id=obj.id, limit=EVENTS_SHOWN
    )
    names = people(actors.values())

    def who(event: HoldEventView) -> str:
        printed = encode_id("je", event.entry_id) if event.entry_id else ""
        actor = actors.get((event.kind, printed), "")
        return names.get(actor) or actor_words(actor)

    zone = zone_of(obj)
    rows = [
        [
            cells.instant(event.recorded_at, zone=zone),
            cells.state(event.kind, tone="flat" if event.kind == "placed" else ""),
            cells.amount(event.amount_minor, obj.currency),
            entry_link(event.entry_id) if event.entry_id else cells.NONE,
            cells.text(who(event)),
        ]
        for event in happened[:EVENTS_SHOWN]
    ]
    return Table(
        "Timeline",
        ("Recorded", "What", ">Amount", "Entry", "By"),
        rows,
        note=_said_of(obj, happened),
    )


def _said_of(obj: Hold, happened: Sequence[HoldEventView]) -> str:
    """Say what the rows of a timeline do not."""
    if len(happened) > EVENTS_SHOWN:
        return f"The first {EVENTS_SHOWN}; every capture is an entry of the journal too."
    if _view(obj).status == HoldStatus.EXPIRED and happened[-1].kind != "expired":
        return "Its time is over, so it holds nothing; the job that writes so has not run yet."
    return "A capture posts an entry; what is not captured was never posted."


def _sides(obj: Hold) -> tuple[LedgerAccount, LedgerAccount]:
    """Return whose money is reserved and for whom: of assets money leaves by a credit."""
    debited, credited = obj.debit_account, obj.credit_account
    if debited.type in CREDIT_NORMAL or credited.type in CREDIT_NORMAL:
        return debited, credited
    return credited, debited


def _bounded(search: HoldSearch) -> tuple[HoldSearch, str]:
    """Return the search so far back as is looked for what has ended."""
    is_of_all = search.status is None and search.expires == Window()
    if is_of_all or search.status == _OPEN or search.account_id is not None:
        return search, ""
    ends_at = search.created.ends_at or clock.now()
    earliest = ends_at - timedelta(days=ENDED_DAYS)
    starts_at = search.created.starts_at
    if starts_at is not None and starts_at >= earliest - timedelta(hours=1):
        return search, ""
    notice = (
        f"What has ended is looked for on one account, or among holds that were placed in"
        f" {ENDED_DAYS} days: here from {earliest:%d %b %Y} on."
    )
    return replace(search, created=Window(earliest, search.created.ends_at)), notice


def _view(obj: Hold) -> HoldView:
    view: HoldView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view
