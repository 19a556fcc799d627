"""Ledger accounts: a tree of codes, and an account's page, which is its statement."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import Filter, Keyset, RecordAdmin, Table, cells, lists, shown, zone_of
from apps.core.wall_clock import day_of, first_instant_at
from apps.ledger import queries
from apps.ledger.admin._corrections import ADJUST, ADJUST_ANYWHERE
from apps.ledger.admin._exporting import EXPORT, EXPORT_TRIAL_BALANCE
from apps.ledger.admin._holds import HOLDS_SHOWN, held_table
from apps.ledger.admin._links import account_link, entry_link, holds_url, journal_url, short_code
from apps.ledger.models import LedgerAccount
from apps.ledger.queries import BalanceView, Branch, Position, Statement
from apps.ledger.rules import CREDIT_NORMAL, AccountStatus, AccountType
from apps.ledger.rules.months import first_of, next_month, parse_month

STATEMENT_ROWS = 50
_FLAT = ("q", "code", "type", "currency", "status", "floor", "after", "before", "flat")
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
    def prepare_page(self, request: HttpRequest, obj: LedgerAccount) -> None:
        # What is held is as of the same instant.
        found = queries.balances_with_holds([obj], now=clock.now(), limit=HOLDS_SHOWN + 1)
        [(obj.view, obj.holds)] = found  # type: ignore[attr-defined]  # attached for its page

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
        organization = _chosen(request, site.organizations(request))
        filters = [one for one in self.get_filters(request) if one.name != "organization"]
        context = {
            **site.each_context(request),
            "title": self.list_title(),
            "filters": [(one, one.chosen(request.GET)) for one in filters],
            "has_filters": True,
            "organizations": site.organizations(request),
            "chosen": str(organization.id) if organization else "",
            "tree": _tree(organization, request) if organization else None,
            "acts": self._buttons(request, None),
            **(extra_context or {}),
        }
        request.current_app = site.name
        return TemplateResponse(request, self.tree_template, self._with_screen(context))

    # --- The statement -------------------------------------------------------------------------

    @override
    def record_extra(self, request: HttpRequest, obj: LedgerAccount) -> dict[str, Any]:
        asked = _asked(request, obj)
        statement = queries.get_statement(
            organization_id=obj.organization_id,
            account_id=obj.id,
            since=asked["since"],
            until=asked["until"],
            clock=asked["clock"],
            kind=asked["kind"],
            ask=queries.LinesAsked(STATEMENT_ROWS, after=asked["after"]),
        )
        query = {name: asked[name] for name in ("clock", "period", "kind") if asked[name]}
        following = statement.next
        return {
            "asked": asked,
            "held": held_table(obj, self.admin_site.autolink),  # type: ignore[attr-defined]  # our site's
            "earlier": f"?{urlencode(query | {'period': asked['earlier'], 'kind': asked['kind']})}",
            "later": f"?{urlencode(query | {'period': asked['later'], 'kind': asked['kind']})}",
            "first_page": f"?{urlencode(query)}" if asked["after"] else "",
            "next_page": f"?{urlencode(query | {'after': _printed(following)})}"
            if following
            else "",
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


def _chosen(request: HttpRequest, seen: Sequence[Organization]) -> Organization | None:
    wanted = request.GET.get("organization", "")
    return next((one for one in seen if str(one.id) == wanted), seen[0] if seen else None)


def _tree(organization: Organization, request: HttpRequest) -> dict[str, Any]:
    """Return the open levels as one table, each branch under the one it belongs to."""
    path = lists.typed(request.GET.get("under", ""))
    after = lists.typed(request.GET.get("from", ""))
    levels = queries.list_levels(
        organization_id=organization.id, now=clock.now(), path=path, after=after
    )
    own = {"organization": str(organization.id)} if request.GET.get("organization") else {}

    def link(**query: str) -> str:
        return f"?{urlencode(own | {name: found for name, found in query.items() if found})}"

    def rows(prefix: str, depth: int) -> list[list[SafeString | str]]:
        found = []
        for branch in levels[prefix].branches:
            is_open = branch.path in levels and branch.has_branches
            found.append(_branch_row(branch, depth, link, is_open=is_open))
            if is_open:
                found += rows(branch.path, depth + 1)
        return found

    sums = [branch.sums for branch in levels[""].branches]
    last = levels[path].branches if path in levels else []
    return {
        "table": Table(
            "",
            (
                "Branch",
                "Type",
                ">Accounts",
                ">Posted, debit",
                ">Posted, credit",
                ">Pending out",
                ">Pending in",
                ">Available",
            ),
            rows("", 0),
            empty=_why_empty(path),
            # Branches stand on either side; only what is posted adds up to something.
            totals=[
                "Sum",
                "",
                "",
                *(cells.amounts(_added(sums, sign)) for sign in (1, -1)),
                "",
                "",
                "",
            ]
            if sums
            else (),
        ),
        "more": link(under=path, **{"from": last[-1].name})
        if last and levels[path].has_more
        else "",
        "list_url": link(code=f"{path}:" if path else "", flat="1"),
        "path": short_code(path),
    }


def _why_empty(path: str) -> str:
    """Say why there is no branch here."""
    if path:
        return "No account has a code below this one."
    return "No account has been opened yet; the first customer or bank account opens some."


def _branch_row(
    branch: Branch, depth: int, link: Callable[..., str], *, is_open: bool
) -> list[SafeString | str]:
    name = short_code(branch.name)
    if branch.has_branches:
        url = link(under=branch.path.rpartition(":")[0] if is_open else branch.path)
        mark = "\u25be" if is_open else "\u25b8"
        label = format_html(
            '<a href="{}" aria-expanded="{}"><span class="k-twist" aria-hidden="true">{}</span>'
            " {}</a>",
            url,
            "true" if is_open else "false",
            mark,
            name,
        )
    else:
        label = format_html('<span class="k-twist" aria-hidden="true"></span> {}', name)
    if branch.account_id is not None:
        label = format_html("{} {}", label, account_link(branch.account_id, "statement"))
    return [
        format_html('<span class="k-tree" style="--depth: {}">{}</span>', depth, label),
        cells.text(", ".join(sorted(branch.types))),
        cells.number(branch.accounts),
        *_sides(branch.sums),
        *_reserved(branch),
    ]


def _sides(sums: Mapping[str, int]) -> tuple[SafeString | str, SafeString | str]:
    """Draw sums on the side they stand on, a line per currency."""
    debits = {currency: net for currency, net in sums.items() if net > 0}
    credits_ = {currency: -net for currency, net in sums.items() if net < 0}
    return (
        cells.amounts(debits) if debits else "",
        cells.amounts(credits_) if credits_ else "",
    )


def _reserved(branch: Branch) -> list[SafeString | str]:
    """Draw what is pending and available, where the accounts of a branch are of one side."""
    if 0 < len(branch.types & CREDIT_NORMAL) < len(branch.types):
        return [cells.NONE] * 3
    return [
        cells.amounts({currency: sum_ for currency, sum_ in sums.items() if sum_ or not is_pending})
        for sums, is_pending in (
            (branch.pending_out, True),
            (branch.pending_in, True),
            (branch.available, False),
        )
    ]


def _added(sums: Sequence[Mapping[str, int]], sign: int) -> dict[str, int]:
    """Add up one side of the branches; where the books are right both come to the same."""
    total: dict[str, int] = {}
    for one in sums:
        for currency, net in one.items():
            total[currency] = total.get(currency, 0) + max(sign * net, 0)
    return total


def _asked(request: HttpRequest, obj: LedgerAccount) -> dict[str, Any]:
    """Return what the page was opened with; by default the month in which something moved last."""
    zone = zone_of(obj)
    month = parse_month(request.GET.get("period", ""))
    if month is None:
        opens_at = queries.statement_opens_at(
            organization_id=obj.organization_id, account_id=obj.id, now=clock.now()
        )
        month = first_of(day_of(instant=opens_at or obj.created_at, zone=zone))
    is_recorded = request.GET.get("clock") == "recorded"
    following = next_month(month)
    return {
        "clock": "recorded" if is_recorded else "effective",
        "period": f"{month:%Y-%m}",
        "month": f"{month:%B %Y}",
        "earlier": f"{first_of(date.fromordinal(month.toordinal() - 1)):%Y-%m}",
        "later": f"{following:%Y-%m}",
        "kind": lists.typed(request.GET.get("kind", ""))[:40],
        "after": _position(request.GET.get("after", "")),
        "since": first_instant_at(day=month, at=time.min, zone=zone),
        "until": first_instant_at(day=following, at=time.min, zone=zone),
    }


def _printed(position: Position) -> str:
    return f"{position.at.isoformat()}~{position.version}"


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
    side = -1 if statement.type in {"liability", "equity", "income"} else 1
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
