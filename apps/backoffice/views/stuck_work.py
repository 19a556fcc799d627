"""
Work that stands still: how much of which kind, which rows, which jobs, and releasing a row.

Every kind that is registered is here by that alone. Whoever may release work sees it, of their own
organizations; what belongs to none, such as a job's period, is everybody's to mend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.backoffice import operations, queries
from apps.backoffice.operations import REQUEUE
from apps.backoffice.views.pages import Site, owners_of
from apps.core import clock, stuck, work
from apps.core.admin_base import Act, CapabilityMissing, Fact, Table, cells, lists
from apps.core.admin_base.acts import fresh_form, status_of
from apps.core.admin_base.jobs import jobs_table
from apps.core.errors import Refusal
from apps.core.stuck import STUCK, Standing
from apps.core.work import SET_ASIDE, WorkRow

ROWS_SHOWN: Final = 50
_TONES: Final = {"overdue": "warn", "due": "busy", "waiting": "flat", "leased": "busy"}
_LISTED: Final = (Standing.QUARANTINED, Standing.OVERDUE, Standing.FAILED, Standing.PAUSED)
# What a page shows of a row beside these is its own columns; a lease's token is nobody's to read.
_COMMON: Final = frozenset(field.name for field in WorkRow._meta.local_fields)


@dataclass(frozen=True, slots=True)
class Work:
    """A row of work as its form is about it."""

    kind: str
    row: WorkRow

    @property
    def pk(self) -> UUID:
        return self.row.pk

    @property
    def organization_id(self) -> UUID | None:
        return getattr(self.row, "organization_id", None)


def _release_is_off(found: Work, _user: Any) -> str:  # noqa: ANN401
    if found.row.state in SET_ASIDE:
        return ""
    if found.row.state in work.OPEN:
        return "It is not set aside: a worker takes it by itself, once one looks."
    return f"It is {found.row.state}."


RELEASE: Final = Act(
    name="release",
    capability=REQUEUE,
    operation=operations.requeue_work,
    subject="row_id",
    label=lambda _found: "Release this work",
    off=_release_is_off,
    done=lambda _result: "Released: it is due now, as if it had never been tried.",
    more=lambda found, _cleaned: {"kind_name": found.kind},
    presets=("What broke it is mended.", "The other side answers again."),
    note="It is due at once. Nothing is skipped: a worker does it by the rules of its kind.",
)


def stuck_work(site: Site, request: HttpRequest) -> HttpResponse:
    """Show how every kind of work stands, the rows that stand still, and the jobs."""
    if not request.user.has_perm(REQUEUE):
        raise CapabilityMissing(REQUEUE)
    seen = site.organizations(request)
    wanted = request.GET.get("organization", "")
    chosen = [one for one in seen if str(one.id) == wanted]
    named = site.organization_ids(request) if request.GET.get(lists.NAMED) else None
    scope = [one.id for one in chosen] or (
        queries.scope_of(request.user) if named is None else named
    )
    owners = owners_of(request, chosen)
    now = clock.database_now()
    kind = work.find_kind(request.GET.get("kind", ""))
    standings = [one for one in _LISTED if one == request.GET.get("state", "")] or list(STUCK)
    rows = stuck.list_stuck(
        organization_ids=scope,
        limit=ROWS_SHOWN + 1,
        kind_name=kind.name if kind else "",
        standings=standings,
    )
    context = {
        **site.each_context(request),
        "title": "Stuck work",
        "as_of": cells.instant(now),
        "organizations": seen,
        "chosen": wanted if chosen else "",
        "all_url": f"?{urlencode(owners)}",
        "is_narrowed": kind is not None or tuple(standings) != STUCK,
        "tables": [
            _kinds(stuck.count_work(organization_ids=scope), now=now, owners=owners),
            _rows(rows, kind, standings, {one.id: str(one) for one in seen}),
            jobs_table(
                stuck.list_jobs(now=now), now=now, more_url=reverse("admin:core_jobrun_changelist")
            ),
        ],
    }
    request.current_app = site.name
    return TemplateResponse(request, "kassa/stuck_work.html", context)


def _kinds(found: Sequence[stuck.KindStanding], *, now: datetime, owners: dict[str, str]) -> Table:
    def number(kind: stuck.KindStanding, standing: Standing) -> SafeString:
        count = kind.number(standing)
        if not count:
            return cells.NONE
        is_least = count > stuck.COUNT_MAX or (standing not in _LISTED and kind.is_cut)
        told = f"{min(count, stuck.COUNT_MAX):,}{'+' if is_least else ''}"
        if standing not in _LISTED:
            return cells.text(told)
        query = {"kind": kind.name, "state": standing} | owners
        return cells.link(f"?{urlencode(query)}", told)

    return Table(
        "By kind",
        (
            "Kind",
            "Queue",
            ">Due",
            "Oldest due",
            ">At work",
            ">Later",
            *(f">{one.capitalize()}" for one in _LISTED),
        ),
        [
            [
                cells.code(kind.name),
                cells.text(kind.queue),
                number(kind, Standing.DUE),
                cells.age(kind.oldest_due_at, now=now),
                number(kind, Standing.LEASED),
                number(kind, Standing.WAITING),
                *(number(kind, one) for one in _LISTED),
            ]
            for kind in found
        ],
        note=f"overdue: due for {stuck.OVERDUE_SECONDS // 60} minutes and not taken",
    )


def _rows(
    rows: Sequence[stuck.StuckRow],
    kind: work.Kind | None,
    standings: Sequence[Standing],
    names: dict[UUID, str],
) -> Table:
    told = " or ".join(standings)
    return Table(
        f"Rows that are {told}" + (f": {kind.name}" if kind else ""),
        ("Row", "Kind", "Organization", "State", ">Attempts", ">Lapses", "Error", "Due"),
        [
            [
                cells.cut(str(row.id), url=_url(row.kind, row.id)),
                cells.code(row.kind),
                _owner(row.organization_id, names),
                cells.state(row.standing, tone=_TONES.get(row.standing, "")),
                cells.number(row.attempts),
                cells.number(row.lapses),
                cells.code(row.error_code),
                cells.instant(row.due_at),
            ]
            for row in rows[:ROWS_SHOWN]
        ],
        empty=f"No work is {told}. Workers take what is due by themselves.",
        note=f"the first {ROWS_SHOWN}, oldest first" if len(rows) > ROWS_SHOWN else "",
    )


def _owner(id_: UUID | None, names: dict[UUID, str]) -> SafeString:
    if id_ is None:
        return cells.text("the platform")
    return cells.text(names[id_]) if id_ in names else cells.cut(str(id_))


def _url(kind: str, row_id: UUID) -> str:
    return reverse("admin:stuck_row", args=[kind, row_id])


# --- One row ------------------------------------------------------------------------------------


def stuck_row(site: Site, request: HttpRequest, *, kind: str, row_id: UUID) -> HttpResponse:
    """Show one row of work, and release it."""
    if not request.user.has_perm(REQUEUE):
        raise CapabilityMissing(REQUEUE)
    found = _found(request, kind, row_id)
    form = RELEASE.bind(request, found)
    if request.method != "POST" or not form.is_valid():
        status = 400 if form.is_bound else 200
        return _page(site, request, found, form, off=_off(found, request), status=status)
    try:
        result = RELEASE.run(form, user=request.user, subject=found)
    except Refusal as refusal:
        # Read again: what refused it may be what changed meanwhile.
        found = _found(request, kind, row_id)
        form = fresh_form(form, subject=found)
        return _page(site, request, found, form, refusal=refusal, status=status_of(refusal))
    messages.success(request, RELEASE.done(result))
    return HttpResponseRedirect(reverse("admin:stuck_work"))


def _found(request: HttpRequest, kind: str, row_id: UUID) -> Work:
    row = queries.find_work(
        kind_name=kind, row_id=row_id, organization_ids=queries.scope_of(request.user)
    )
    if row is None:
        raise Http404("There is no such row, or it is not yours to see.")
    return Work(kind, row)


def _off(found: Work, request: HttpRequest) -> str:
    return RELEASE.why_off(found, request.user)


def _page(
    site: Site,
    request: HttpRequest,
    found: Work,
    form: Any,  # noqa: ANN401  (an ActForm; the stubs make its fields opaque)
    *,
    refusal: Refusal | None = None,
    off: str = "",
    status: int,
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": f"{RELEASE.label(found)}: {found.kind}",
        "act": RELEASE,
        "facts": _facts(site, request, found),
        "form": form,
        "refusal": refusal,
        "button": RELEASE.label(found),
        "off": off,
        "back_url": reverse("admin:stuck_work"),
    }
    request.current_app = site.name
    return TemplateResponse(request, "kassa/act.html", context, status=status)


def _facts(site: Site, request: HttpRequest, found: Work) -> list[Fact]:
    row = found.row
    names = {one.id: str(one) for one in site.organizations(request)}
    return [
        Fact("Row", cells.cut(str(row.pk))),
        Fact("Organization", _owner(found.organization_id, names)),
        Fact("State", cells.state(row.state)),
        Fact("Attempts", cells.number(row.attempts)),
        Fact("Lapses", cells.number(row.lapses)),
        Fact("Error", cells.code(row.last_error_code)),
        Fact("Next attempt", cells.instant(row.next_attempt_at)),
        Fact("Leased until", cells.instant(row.lease_until)),
        *(
            Fact(str(field.verbose_name).capitalize(), _own(getattr(row, field.attname)))
            for field in row._meta.concrete_fields
            if field.name not in _COMMON and field.attname != "organization_id"
            if not isinstance(field, models.BinaryField)
        ),
    ]


def _own(value: object) -> SafeString:
    match value:
        case datetime():
            return cells.instant(value)
        case date():
            return cells.day(value)
        case bool():
            return cells.yes_no(value)
        case UUID():
            return cells.cut(str(value))
        case _:
            return cells.text(value)
