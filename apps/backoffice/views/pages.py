"""Home, and what a search finds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.accounts.models import Organization
from apps.backoffice import queries
from apps.core import clock
from apps.core.admin_base import RecordAdmin, Table, cells, lists
from apps.core.errors import Refusal
from apps.core.ids import decode_id
from apps.core.money import exponent

HITS_MAX = 5


class Site(Protocol):
    """What these pages ask of the site."""

    name: str
    _registry: Any

    def each_context(self, request: HttpRequest) -> dict[str, Any]: ...

    def organizations(self, request: HttpRequest) -> list[Organization]: ...

    def organization_ids(self, request: HttpRequest) -> list[UUID]: ...

    def chosen_organization(self, request: HttpRequest) -> Organization | None: ...


type Page = Callable[..., HttpResponse]


def bind(site: Site, page: Page) -> Page:
    """Return the page as a view of this site; what its address says goes to it by name."""

    def view(request: HttpRequest, **said: Any) -> HttpResponse:  # noqa: ANN401
        return page(site, request, **said)

    return view


# --- Home ---------------------------------------------------------------------------------------


def home(site: Site, request: HttpRequest) -> TemplateResponse:
    """Show what needs this person now, and how money stands."""
    now = clock.now()
    seen = site.organizations(request)
    wanted = request.GET.get("organization", "")
    chosen = [one for one in seen if str(one.id) == wanted]
    owners = owners_of(request, chosen)
    glance = queries.Glance(request.user, tuple(one.id for one in chosen or seen))
    context = {
        **site.each_context(request),
        "title": "Home",
        "greeting": f"Hello, {str(request.user).split()[0]}",
        "tiles": [_leading_on(tile, owners) for tile in queries.list_tiles(glance)],
        "money": _money(glance, now),
        "states": _states(glance, now),
        "as_of": cells.instant(now, zone=_shared_zone(chosen or seen)),
        "organizations": seen,
        "chosen": wanted if chosen else "",
        "has_roles": bool(getattr(request.user, "role_names", frozenset)()),
    }
    request.current_app = site.name
    return TemplateResponse(request, "kassa/home.html", context)


def owners_of(request: HttpRequest, chosen: Sequence[Organization]) -> dict[str, str]:
    """Return what in an address says whose rows are shown: the name looked for, and the choice."""
    told = {
        "organization": str(chosen[0].id) if chosen else "",
        lists.NAMED: lists.typed(request.GET.get(lists.NAMED, "")),
    }
    return {name: value for name, value in told.items() if value}


def _leading_on(tile: queries.Tile, owners: dict[str, str]) -> queries.Tile:
    """Return the tile with a link to what it counted, narrowed to whose rows that was."""
    if not (owners and tile.url):
        return tile
    joined = "&" if "?" in tile.url else "?"
    return replace(tile, url=f"{tile.url}{joined}{urlencode(owners)}")


def _shared_zone(organizations: Sequence[Organization]) -> str:
    """Return the zone of all of them, or UTC where they have several."""
    zones = {one.time_zone for one in organizations}
    return zones.pop() if len(zones) == 1 else "UTC"


DAYS = 30
CURRENCIES_SHOWN = 4
_TONE_COLORS = {
    "good": "--k-in",
    "busy": "--k-accent",
    "warn": "--k-warn",
    "bad": "--k-out",
    "flat": "--k-flat-chart",
}


def _money(glance: queries.Glance, now: datetime) -> list[dict[str, Any]]:
    """Return a chart per currency of what came in and went out, and the same as a table."""
    if not glance.user.has_perm("payments.view_payment"):
        return []
    found = queries.list_money(
        organization_ids=glance.organization_ids, today=now.date(), days=DAYS
    )
    return [
        {
            "currency": currency,
            "chart": _money_chart(currency, days),
            "total_in": cells.amount(sum(day.money_in for day in days), currency),
            "total_out": cells.amount(sum(day.money_out for day in days), currency),
            "table": Table(
                "",
                ("Day", ">In", ">Out", ">Net"),
                [
                    [
                        cells.day(day.day),
                        cells.amount(day.money_in, currency),
                        cells.amount(day.money_out, currency),
                        cells.amount(day.money_in - day.money_out, currency),
                    ]
                    for day in reversed(days)
                    if day.money_in or day.money_out
                ],
            ),
        }
        for currency, days in list(found.items())[:CURRENCIES_SHOWN]
    ]


def _money_chart(currency: str, days: Sequence[queries.DayOfMoney]) -> str:
    return json.dumps(
        {
            "type": "bar",
            "unit": {"currency": currency, "exponent": exponent(currency)},
            "labels": [f"{day.day:%d %b}" for day in days],
            "datasets": [
                {"label": "In", "data": [day.money_in for day in days], "color": "--k-in"},
                {"label": "Out", "data": [-day.money_out for day in days], "color": "--k-out"},
            ],
        }
    )


def _states(glance: queries.Glance, now: datetime) -> dict[str, Any]:
    """Return a ring of the payouts by state, and the same as a table."""
    if not glance.user.has_perm("payouts.view_payout"):
        return {}
    found, is_cut = queries.count_payout_states(
        organization_ids=glance.organization_ids, since=now - timedelta(days=DAYS)
    )
    url = reverse("admin:payouts_payout_changelist")
    return {
        "chart": json.dumps(
            {
                "type": "doughnut",
                "labels": [one.state.replace("_", " ") for one in found],
                "datasets": [
                    {
                        "data": [one.number for one in found],
                        "color": [_TONE_COLORS[cells.tone_of(one.state)] for one in found],
                    }
                ],
            }
        ),
        "total": sum(one.number for one in found),
        "is_cut": is_cut,
        "table": Table(
            "",
            ("State", ">Payouts", ">Sum"),
            [
                [
                    cells.link(f"{url}?{urlencode({'state': one.state})}", cells.state(one.state)),
                    cells.number(one.number),
                    cells.amounts(one.sums),
                ]
                for one in found
            ],
            empty="Nobody asked for a payout in these days.",
        ),
    }


# --- Find ---------------------------------------------------------------------------------------


def find(site: Site, request: HttpRequest) -> HttpResponse:
    """Find a row by its id or an exact reference; posted, so that no URL or log keeps the text."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    text = lists.typed(request.POST.get("text", ""))
    hits = _hits(site, request, text) if text else []
    if len(hits) == 1:
        screen, row = hits[0]
        return HttpResponseRedirect(screen.url_of(row))
    table = Table(
        "Rows",
        ("What", "Row"),
        [
            [
                cells.text(str(screen.opts.verbose_name).capitalize()),
                cells.link(screen.url_of(row), screen.headline(row)),
            ]
            for screen, row in hits
        ],
        empty="No row that you may see has this id or reference. Texts are compared whole.",
        note=f"At most {HITS_MAX} of a kind." if len(hits) >= HITS_MAX else "",
    )
    context = {**site.each_context(request), "title": "Found", "table": table, "find_text": text}
    request.current_app = site.name
    return TemplateResponse(request, "kassa/found.html", context)


def _hits(site: Site, request: HttpRequest, text: str) -> list[tuple[RecordAdmin[Any], Any]]:
    screens = [
        screen
        for screen in site._registry.values()  # noqa: SLF001  (the register of screens)
        if isinstance(screen, RecordAdmin) and screen.has_view_permission(request)
    ]
    by_id = [screen for screen in screens if screen.prefix and _is_id(screen.prefix, text)]
    looked_in = by_id or [screen for screen in screens if screen.search_hint]
    found: list[tuple[RecordAdmin[Any], Any]] = []
    for screen in looked_in:
        try:
            rows = screen.find(request, screen.get_queryset(request), text)
        except Refusal:
            continue
        found += [(screen, row) for row in rows[:HITS_MAX]]
    return found


def _is_id(prefix: str, text: str) -> bool:
    try:
        decode_id(prefix, text)
    except Refusal:
        return False
    return True
