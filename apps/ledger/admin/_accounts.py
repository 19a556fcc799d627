"""Ledger accounts: a tree of codes, and an account's page, which is its statement."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import (
    Fact,
    Filter,
    Keyset,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.wall_clock import day_of
from apps.ledger import queries
from apps.ledger.admin._account_tree import tree
from apps.ledger.admin._corrections import ADJUST, ADJUST_ANYWHERE
from apps.ledger.admin._exporting import EXPORT, EXPORT_TRIAL_BALANCE
from apps.ledger.admin._holds import HOLDS_SHOWN, held_table
from apps.ledger.admin._links import (
    account_link,
    entry_link,
    holds_url,
    journal_url,
    metadata_pairs,
    short_code,
)
from apps.ledger.models import LedgerAccount
from apps.ledger.queries import BalanceView, Position, Statement
from apps.ledger.rules import CREDIT_NORMAL, AccountStatus, AccountType
from apps.ledger.rules.months import first_of, next_month, parse_month

STATEMENT_ROWS = 50
_FLAT = ("q", "code", "type", "currency", "status", "floor", "after", "before", "flat")
# What the tree's own choice stands for.
_WHOSE = ("organization", lists.NAMED)
_VERSION_DIGITS_MAX = 18


@admin.register(LedgerAccount)
class LedgerAccountAdmin(RecordAdmin[LedgerAccount]):
    """Where money stands; an account's page is its statement."""

    view_capability = "ledger.view_ledger"
    prefix = "la"
    aggregate_type = "ledger_account"
    keyset = Keyset(columns=("organization_id", "code"), descending=False)
    record_template = "kassa/account.html"
    tree_template = "kassa/accounts.html"
    intro = "Where money stands. A branch shows the sum of all accounts below it."
    empty = "No account has been opened yet; the first customer or bank account opens some."
    search_hint = "la_… or the whole code"
    list_display = ("path", "kind", "posted", "pending_out", "available", "floor", "status")
    filters: ClassVar[Sequence[Filter]] = (
        lists.prefix("code", "Code begins with", placeholder="customers:"),
        lists.choice("type", [(kind.value, kind.value) for kind in AccountType]),
        lists.exact("currency", "Currency", placeholder="EUR"),
        Filter(
            "status",
            "Status",
            lambda rows, status: rows.filter(queries.has_status(status)),
            [(status.value, status.value.capitalize()) for status in AccountStatus],
        ),
        Filter(
            "floor",
            "Floor",
            lambda rows, where: rows.filter(
                queries.stands_at_floor(now=clock.now(), is_below=where == "below")
            ),
            [("at", "At its floor"), ("below", "Below its floor")],
        ),
    )
    facts = ("id", "whole_code", "kind", "posted", "pending_out", "pending_in", "floor", "status")
    acts = (EXPORT, ADJUST, ADJUST_ANYWHERE, EXPORT_TRIAL_BALANCE)

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
        found = queries.balances_with_holds(rows, now=clock.now(), limit=0)
        for row, (view, _) in zip(rows, found, strict=True):
            row.view = view  # type: ignore[attr-defined]  # attached for the cells

    @override
    def rows_of_pages(self, request: HttpRequest) -> QuerySet[LedgerAccount]:
        return queries.with_standing(super().rows_of_pages(request))

    @override
    def prepare_page(self, request: HttpRequest, obj: LedgerAccount) -> None:
        # What is held is as of the same instant.
        found = queries.balances_with_holds([obj], now=clock.now(), limit=HOLDS_SHOWN + 1)
        [(obj.view, obj.holds)] = found  # type: ignore[attr-defined]  # attached for its page

    @override
    def get_facts(self, request: HttpRequest, obj: LedgerAccount) -> list[Fact]:
        said = Fact("Metadata", metadata_pairs(obj.metadata), wide=True)
        return [*super().get_facts(request, obj), said]

    @shown("Account")
    def path(self, obj: LedgerAccount) -> SafeString:
        return account_link(obj.id, obj.code)

    @shown("Code")
    def whole_code(self, obj: LedgerAccount) -> SafeString:
        return cells.cut(obj.code, head=9, tail=8)

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

    # --- The tree ------------------------------------------------------------------------------

    @override
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the tree, or a plain list as soon as somebody looks for something."""
        if any(request.GET.get(name) for name in _FLAT):
            return super().changelist_view(request, extra_context)
        self._refuse_stranger(request)
        site: Any = self.admin_site
        organization = site.chosen_organization(request)
        filters = [one for one in self.get_filters(request) if one.name not in _WHOSE]
        context = {
            **site.each_context(request),
            "title": self.list_title(),
            "filters": [(one, one.chosen(request.GET)) for one in filters],
            "has_filters": True,
            "organizations": site.organizations(request),
            "chosen": str(organization.id) if organization else "",
            "tree": tree(organization, request) if organization else None,
            "acts": self._buttons(request, None),
            **(extra_context or {}),
        }
        request.current_app = site.name
        return TemplateResponse(request, self.tree_template, self._with_screen(context))

    # --- The statement -------------------------------------------------------------------------

    @override
    def record_extra(self, request: HttpRequest, obj: LedgerAccount) -> dict[str, Any]:
        asked = _asked(request, obj)
        statement = queries.statement_of(
            obj,
            since=asked["since"],
            until=asked["until"],
            clock=asked["clock"],
            kind=asked["kind"],
            ask=queries.LinesAsked(STATEMENT_ROWS, after=asked["after"], before=asked["before"]),
        )
        query = {name: asked[name] for name in ("clock", "period", "kind") if asked[name]}
        return {
            "asked": asked,
            "held": held_table(obj, self.admin_site.autolink),  # type: ignore[attr-defined]  # our site's
            "earlier": f"?{urlencode(query | {'period': asked['earlier'], 'kind': asked['kind']})}",
            "later": f"?{urlencode(query | {'period': asked['later'], 'kind': asked['kind']})}",
            "first_page": f"?{urlencode(query)}" if statement.previous else "",
            "previous_page": _page(query, "before", statement.previous),
            "next_page": _page(query, "after", statement.next),
            "statement": _statement_table(statement, zone=zone_of(obj)),
            "opening": cells.amount(statement.opening_minor, obj.currency),
            "closing": cells.amount(statement.closing_minor, obj.currency),
            "journal_url": journal_url(obj),
            "holds_url": holds_url(obj),
            "export_url": f"{self.act_url(EXPORT, obj)}?{urlencode(query)}"
            if EXPORT.is_offered(obj, request.user)
            else "",
        }


def _view(obj: LedgerAccount) -> BalanceView:
    view: BalanceView = obj.view  # type: ignore[attr-defined]  # attached by prepare
    return view


def _asked(request: HttpRequest, obj: LedgerAccount) -> dict[str, Any]:
    """Return what the page was opened with; by default the month in which something moved last."""
    zone = zone_of(obj)
    month = parse_month(request.GET.get("period", ""))
    if month is None:
        opens_at = queries.statement_opens_at(obj, now=clock.now())
        month = first_of(day_of(instant=opens_at or obj.created_at, zone=zone))
    is_recorded = request.GET.get("clock") == "recorded"
    since, until = queries.month_bounds(month, zone=zone)
    after = _position(request.GET.get("after", ""))
    return {
        "clock": "recorded" if is_recorded else "effective",
        "period": f"{month:%Y-%m}",
        "month": f"{month:%B %Y}",
        "earlier": f"{first_of(date.fromordinal(month.toordinal() - 1)):%Y-%m}",
        "later": f"{next_month(month):%Y-%m}",
        "kind": lists.typed(request.GET.get("kind", ""))[:40],
        "after": after,
        # One place only: lists go on after one if both are named.
        "before": None if after else _position(request.GET.get("before", "")),
        "since": since,
        "until": until,
    }


def _page(query: Mapping[str, str], way: str, place: Position | None) -> str:
    """Return the address of the page after a place or before it; empty where there is none."""
    if place is None:
        return ""
    return f"?{urlencode({**query, way: f'{place.at.isoformat()}~{place.version}'})}"


def _position(text: str) -> Position | None:
    """Read a place in a statement; what is none shows the first page."""
    at, _, version = text.partition("~")
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        return None
    is_ours = version.isdecimal() and version.isascii() and len(version) <= _VERSION_DIGITS_MAX
    return Position(instant, int(version)) if is_ours and instant.tzinfo else None


def _statement_table(statement: Statement, *, zone: str) -> Table:
    currency = statement.currency
    side = -1 if statement.type in CREDIT_NORMAL else 1
    return Table(
        "",
        ("Business time", "Recorded", "Kind", "Reference", "What", "Entry", ">Amount", ">Balance"),
        [
            [
                cells.instant(line.effective_at, zone=zone),
                cells.instant(line.recorded_at, zone=zone),
                cells.code(line.kind),
                cells.cut(line.reference or "", head=9, tail=6),
                # The whole stands on the entry's page.
                cells.free_text(line.description or "", at_most=60),
                entry_link(line.entry_id),
                cells.amount(side * line.amount_minor, currency, colored=True),
                cells.amount(line.balance_after_minor, currency),
            ]
            for line in statement.lines
        ],
        empty="Nothing was posted here in this month.",
    )
