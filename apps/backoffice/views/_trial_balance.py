"""The trial balance: as of now, or of a month with what moved in it."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.backoffice import queries
from apps.backoffice.views._sheet import balance_sheet
from apps.backoffice.views.pages import Site
from apps.core import clock
from apps.core.admin_base import CapabilityMissing, Table, cells, lists, zone_note
from apps.core.ids import encode_id
from apps.ledger import queries as ledger
from apps.ledger.rules.months import parse_month

_EXPORT = "core.export"


def trial_balance(site: Site, request: HttpRequest) -> HttpResponse:
    """Show whether the books stand, per currency, in words and in figures."""
    if not request.user.has_perm("ledger.view_ledger"):
        raise CapabilityMissing("ledger.view_ledger")
    organization = site.chosen_organization(request)
    month = parse_month(request.GET.get("period", ""))
    asked = {
        "period": f"{month:%Y-%m}" if month else "",
        "currency": lists.typed(request.GET.get("currency", ""))[:3].upper(),
        "code": lists.typed(request.GET.get("code", "")),
    }
    context = {
        **site.each_context(request),
        "title": "Trial balance",
        "organizations": site.organizations(request),
        "chosen": str(organization.id) if organization else "",
        "asked": asked,
        "is_whole": not asked["code"],
        "export_url": _export_url(organization, asked)
        if organization and request.user.has_perm(_EXPORT)
        else "",
        "as_of": cells.instant(clock.now(), zone=organization.time_zone if organization else "UTC"),
        "zone_note": zone_note([organization.time_zone] if organization else []),
        **(_month_of(organization, month, asked) if month and organization else {}),
    }
    if month is None and organization is not None:
        found = queries.trial_balances(
            organization_id=organization.id, code_prefix=asked["code"], currency=asked["currency"]
        )
        context["balances"] = [
            (one.currency, one.total.closing == 0, _balance_table(one, organization))
            for one in found
        ]
        context["sheet"] = balance_sheet(found, code=asked["code"])
    request.current_app = site.name
    return TemplateResponse(request, "kassa/trial_balance.html", context)


def _export_url(organization: Organization, asked: Mapping[str, str]) -> str:
    """Return where the trial balance that is looked at is taken out as a file."""
    url = reverse("admin:ledger_ledgeraccount_list_act", args=["trial-balance"])
    return f"{url}?{urlencode({'organization': str(organization.id)} | dict(asked))}"


def _month_of(organization: Organization, month: date, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return a month's trial balance, with what moved in it between two balances."""
    view = ledger.view_period(
        organization_id=organization.id, month=month, zone=organization.time_zone
    )
    found = queries.month_trial_balances(
        view, currency=asked["currency"], code_prefix=asked["code"]
    )
    return {
        "month": f"{month:%B %Y}",
        "state": cells.state(view.state, tone="good" if view.state == "closed" else ""),
        "is_stored": view.is_stored,
        "sheet": balance_sheet(found, code=asked["code"]),
        "balances": [
            (one.currency, _is_balanced(one), _movement_table(one, organization, asked["period"]))
            for one in found
        ],
    }


def _is_balanced(one: ledger.CurrencyLines) -> bool:
    return one.total.opening == 0 and one.total.debits == one.total.credits


def _movement_table(one: ledger.CurrencyLines, organization: Organization, period: str) -> Table:
    currency = one.currency

    def row(line: ledger.TrialLine, label: str = "") -> list[SafeString | str]:
        return [
            cells.link(_drill(line, organization, currency, period), label or line.code),
            cells.text(line.type) if line.type else "",
            cells.number(line.accounts),
            cells.amount(line.opening, currency),
            cells.amount(line.debits, currency) if line.debits else "",
            cells.amount(line.credits, currency) if line.credits else "",
            cells.amount(line.closing, currency),
        ]

    rows: list[list[SafeString | str]] = []
    for at, line in enumerate(one.lines):
        rows.append(row(line))
        is_last = at + 1 == len(one.lines) or one.lines[at + 1].root != line.root
        whole = queries.subtotal(one.lines, line.root) if is_last else None
        if whole is not None:
            summed = row(whole, f"All of {line.root}")
            rows.append([format_html("<b>{}</b>", cell) if cell else "" for cell in summed])
    total = one.total
    return Table(
        "",
        ("Account", "Type", ">Accounts", ">Opening", ">Debits", ">Credits", ">Closing"),
        rows,
        totals=[
            "Sum",
            "",
            "",
            cells.amount(total.opening, currency),
            cells.amount(total.debits, currency),
            cells.amount(total.credits, currency),
            cells.amount(total.closing, currency),
        ],
    )


def _drill(line: ledger.TrialLine, organization: Organization, currency: str, period: str) -> str:
    """Return where a line comes from: an account's statement of the month, or the accounts."""
    if line.account_id is not None:
        url = reverse("admin:ledger_ledgeraccount_change", args=[encode_id("la", line.account_id)])
        return f"{url}?{urlencode({'period': period})}#statement"
    return _accounts_url(organization, queries.prefix_of(line), currency)


def _accounts_url(organization: Organization, prefix: str, currency: str) -> str:
    """Return the list of what a line sums up: accounts of this organization alone."""
    query = urlencode({"organization": str(organization.id), "code": prefix, "currency": currency})
    return f"{reverse('admin:ledger_ledgeraccount_changelist')}?{query}"


def _balance_table(one: ledger.CurrencyLines, organization: Organization) -> Table:
    currency = one.currency

    def row(line: ledger.TrialLine) -> list[SafeString | str]:
        url = _accounts_url(organization, queries.prefix_of(line), currency)
        return [
            cells.link(url, line.code),
            cells.text(line.type),
            cells.number(line.accounts),
            cells.amount(line.debits, currency) if line.debits else "",
            cells.amount(line.credits, currency) if line.credits else "",
        ]

    return Table(
        "",
        ("Account", "Type", ">Accounts", ">Debit", ">Credit"),
        [row(line) for line in one.lines],
        totals=[
            "Sum",
            "",
            "",
            cells.amount(one.total.debits, currency),
            cells.amount(one.total.credits, currency),
        ],
    )
