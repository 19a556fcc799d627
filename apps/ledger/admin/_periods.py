"""Months of the books: what stands in the way of a close, and asking two people for one."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, override
from uuid import UUID

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import (
    Act,
    ActForm,
    Fact,
    Keyset,
    RecordAdmin,
    Table,
    cells,
    for_staff,
    zone_note,
    zone_of,
)
from apps.ledger import operations, queries, registry
from apps.ledger.admin._corrections import told_asked
from apps.ledger.models import Period
from apps.ledger.queries import Blocker, MonthStanding, PeriodView
from apps.ledger.states import PeriodState

TONES: Mapping[str, str] = {"open": "flat", "closing": "busy", "closed": "good"}
ORGANIZATIONS_MAX = 20


def _month_words(verb: str, period: Period | None) -> str:
    return f"{verb} {period.month:%B %Y}" if period is not None else f"{verb} a month"


def _close_is_off(period: Period, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    if period.state != PeriodState.OPEN:
        return f"It is {period.state} already."
    stops = [
        one.text
        for one in _standing_of(period).blockers
        if one.code in {"period_not_over", "period_out_of_order", "period_closed_already"}
    ]
    return " ".join(stops)


def _reopen_is_off(period: Period, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    if period.state != PeriodState.CLOSED:
        return f"It is {period.state}."
    last = _standing_of(period).last_closed
    if last is not None and last > period.month:
        return f"{last:%B %Y} is closed and comes first."
    return ""


def _call_off_is_off(period: Period, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    return "" if period.state == PeriodState.CLOSING else f"It is {period.state}."


def _of_row(period: Period | None, _cleaned: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"month": period.month} if period is not None else {}


class CloseForm(ActForm):
    """Which organization's next month is to be closed."""

    period = forms.ChoiceField(
        help_text="Months close in order. The first may be any: all before it is closed with it."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.next = next_months(self.user)
        self.fields["period"].choices = [  # type: ignore[attr-defined]  # a choice field
            (f"{one.id}/{month:%Y-%m}", f"{month:%B %Y}, {one}") for one, month in self.next
        ]

    @override
    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        chosen = given.pop("period")
        organization, month = next(
            (one, month) for one, month in self.next if f"{one.id}/{month:%Y-%m}" == chosen
        )
        return given | {"organization_id": organization.id, "month": month}


def next_months(user: Any) -> list[tuple[Organization, date]]:  # noqa: ANN401  (the person)
    """Return the month in turn, or those that may be, of each organization this person may see."""
    seen = for_staff(user, Organization.objects.order_by("id"), column="id")[:ORGANIZATIONS_MAX]
    return [
        (one, month)
        for one in seen
        for month in queries.months_to_close(organization_id=one.id, now=clock.now())
    ]


@admin.register(Period)
class PeriodAdmin(RecordAdmin[Period]):
    """Months that somebody asked to close."""

    view_capability = "ledger.view_period"
    prefix = "per"
    aggregate_type = "period"
    keyset = Keyset(columns=("organization_id", "month"))
    title = "Periods"
    intro = "Months of the books. Two people close one, in order; a closed month takes no entry."
    list_template = "kassa/periods.html"
    tones = TONES
    facts = ("id", "starts", "ends", "closings", "asked_by", "agreed_by", "closed_at")
    list_display = ("id", "month", "state", "closings", "closed_at")
    acts = (
        Act(
            name="ask",
            capability="ledger.close_period",
            operation=registry.request_close,
            form=CloseForm,
            label=lambda _none: "Close a month",
            done=told_asked,
            on_list=True,
            presets=("Reconciled with the bank to the last line.",),
            note="Another person decides. From then on no entry is taken before the month's end.",
        ),
        Act(
            name="close",
            capability="ledger.close_period",
            operation=registry.request_close,
            label=lambda period: _month_words("Close", period),
            off=_close_is_off,
            done=told_asked,
            more=_of_row,
            presets=("Reconciled with the bank to the last line.",),
            note="Another person decides. From then on no entry is taken before the month's end.",
        ),
        Act(
            name="stop",
            capability="ledger.close_period",
            operation=operations.call_off_closing,
            label=lambda period: _month_words("Stop closing", period),
            off=_call_off_is_off,
            done=lambda period: f"It is {period.state} again and takes entries.",
        ),
        Act(
            name="reopen",
            capability="ledger.reopen_period",
            operation=registry.request_reopen,
            label=lambda period: _month_words("Open again", period),
            off=_reopen_is_off,
            done=told_asked,
            more=_of_row,
            presets=("A document of this month came late.",),
            is_dangerous=True,
            note="Another person decides. The trial balance stored so far stays under its number.",
        ),
    )

    @override
    def prepare_page(self, request: HttpRequest, obj: Period) -> None:
        obj.standing = queries.get_standing(  # type: ignore[attr-defined]  # attached for its page
            organization_id=obj.organization_id,
            month=obj.month,
            now=clock.now(),
            zone=zone_of(obj),
        )

    @override
    def actors_of(self, obj: Period) -> Sequence[str]:
        return [
            obj.requested_by,
            obj.approved_by,
            obj.reopening_requested_by,
            obj.reopening_approved_by,
        ]

    @override
    def headline(self, obj: Period) -> str:
        return f"{obj.month:%B %Y}"

    @override
    def after_act(self, request: HttpRequest, obj: Period | None) -> str:
        """Return to the months of the organization that was asked about."""
        chosen = request.POST.get("period", "").partition("/")[0]
        url = super().after_act(request, obj)
        return f"{url}?{urlencode({'organization': chosen})}" if obj is None and chosen else url

    def starts(self, obj: Period) -> SafeString:
        return cells.instant(obj.starts_at, zone=zone_of(obj))

    def ends(self, obj: Period) -> SafeString:
        return cells.instant(obj.ends_at, zone=zone_of(obj))

    def asked_by(self, obj: Period) -> SafeString:
        return _person(obj, obj.requested_by)

    def agreed_by(self, obj: Period) -> SafeString:
        return _person(obj, obj.approved_by)

    def closed_at(self, obj: Period) -> SafeString:
        return cells.instant(obj.closed_at, zone=zone_of(obj))

    @override
    def get_facts(self, request: HttpRequest, obj: Period) -> list[Fact]:
        facts = super().get_facts(request, obj)
        if not obj.reopening_requested_by:
            return facts
        return [
            *facts,
            Fact("Reopening asked by", _person(obj, obj.reopening_requested_by)),
            Fact("Reopening agreed by", _person(obj, obj.reopening_approved_by)),
            Fact("Opened again because", obj.reopening_reason, wide=True),
        ]

    @override
    def get_act_facts(self, request: HttpRequest, obj: Period) -> list[Fact]:
        return [*self.get_facts(request, obj), *_blockers(obj)]

    @override
    def get_tables(self, request: HttpRequest, obj: Period) -> list[Table]:
        return [_standing(_standing_of(obj).blockers, obj.state), _totals(obj)]

    @override
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show every month, also those that nobody asked about, and what the next one waits for."""
        self._refuse_stranger(request)
        site: Any = self.admin_site
        chosen = site.chosen_organization(request)
        months = (
            queries.list_periods(organization_id=chosen.id, now=clock.now(), zone=chosen.time_zone)
            if chosen
            else []
        )
        turn = next((view for view in reversed(months) if view.state != PeriodState.CLOSED), None)
        context = {
            **site.each_context(request),
            "title": self.list_title(),
            "organizations": site.organizations(request),
            "chosen": str(chosen.id) if chosen else "",
            "acts": self._buttons(request, None),
            "turn": f"{turn.month:%B %Y}" if turn else "",
            "standing": _standing(
                queries.blockers_of(turn, turn=turn.month, now=clock.now()), turn.state
            )
            if turn
            else None,
            "zone_note": zone_note([chosen.time_zone] if chosen else []),
            "months": self._months(months, zone=chosen.time_zone if chosen else "UTC"),
            **(extra_context or {}),
        }
        request.current_app = site.name
        return TemplateResponse(request, self.list_template, self._with_screen(context))

    def _months(self, months: Sequence[PeriodView], *, zone: str) -> Table:
        return Table(
            "",
            ("Month", "State", "From", "Until", ">Closed", "Closed at", "Trial balance"),
            [
                [
                    cells.link(self.url_of(view.row), f"{view.month:%B %Y}")
                    if view.row
                    else cells.text(f"{view.month:%B %Y}"),
                    cells.state(view.state, tone=TONES[view.state]),
                    cells.instant(view.starts_at, zone=zone),
                    cells.instant(view.ends_at, zone=zone),
                    cells.text(_times(view.row.closings) if view.row else "never"),
                    cells.instant(view.row.closed_at if view.row else None, zone=zone),
                    _trial_balance_link(view.organization_id, view.name),
                ]
                for view in months
            ],
            empty="There is no organization whose months you may see.",
        )


def _times(closings: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(closings, f"{closings} times")


def _person(obj: Period, principal: str) -> SafeString:
    names: Mapping[str, str] = obj.names  # type: ignore[attr-defined]  # attached by prepare
    return cells.text(names.get(principal, principal))


def _trial_balance_link(organization_id: UUID, name: str) -> SafeString:
    query = urlencode({"organization": str(organization_id), "period": name})
    return cells.link(f"{reverse('admin:trial_balance')}?{query}", "show")


def _standing(found: Sequence[Blocker], state: str) -> Table:
    """Return what stands in the way of a close, in words."""
    return Table(
        "What stands in the way",
        ("Code", "What is missing"),
        [[cells.code(blocker.code), cells.text(blocker.text)] for blocker in found],
        empty="It is closed." if state == PeriodState.CLOSED else "Nothing: it can be closed now.",
    )


def _standing_of(period: Period) -> MonthStanding:
    standing: MonthStanding = period.standing  # type: ignore[attr-defined]  # attached by prepare
    return standing


def _blockers(period: Period) -> list[Fact]:
    found = _standing_of(period).blockers
    return [Fact("In the way", blocker.text, wide=True) for blocker in found]


def _totals(period: Period) -> Table:
    view = _standing_of(period).view
    is_stored = period.state == PeriodState.CLOSED
    query = urlencode({"organization": str(period.organization_id), "period": str(period)})
    return Table(
        "Trial balance",
        ("Currency", ">Debits", ">Credits", ">Difference", "In words"),
        [
            [
                cells.text(total.currency),
                cells.amount(total.debits, total.currency),
                cells.amount(total.credits, total.currency),
                cells.amount(total.closing, total.currency),
                cells.state("zero", label="debits equal credits", tone="good")
                if total.is_balanced
                else cells.state("off", label="the books are off", tone="bad"),
            ]
            for total in queries.totals_of(view)
        ],
        empty="Nothing was posted up to the end of this month.",
        note=f"As it was stored at closing {period.closings}."
        if is_stored
        else "As it stands now; it is stored once the month is closed.",
        more_url=f"{reverse('admin:trial_balance')}?{query}",
        more_label="By account",
    )
