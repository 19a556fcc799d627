"""Staff screens of the core: the audit trail, the event log, scheduled jobs."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, override
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core import clock, queries, stuck
from apps.core.admin_base import (
    Fact,
    Filter,
    Keyset,
    RecordAdmin,
    Table,
    cells,
    for_staff,
    lists,
    shown,
)
from apps.core.admin_base.jobs import jobs_table
from apps.core.jobs import JOBS_KIND
from apps.core.models import AuditEvent, JobRun, OutboxEvent
from apps.core.work import SET_ASIDE, WorkState

EVENTS_AROUND: Final = 20
UUID_LENGTH: Final = 36


@admin.register(AuditEvent)
class AuditEventAdmin(RecordAdmin[AuditEvent]):
    """Who did what to what, and why. An admin of staff sees acts on staff only."""

    view_capability = "core.view_audit"
    title = "Audit trail"
    related: ClassVar[Sequence[str]] = ()
    intro = "Everything a person, a key or a job did. Nobody can change or remove a row."
    empty = "Nobody has done anything yet."
    list_display = ("when", "what", "who", "subject", "reason", "outcome")
    facts = ("when", "what", "who", "subject", "outcome", "request_id")
    filters: ClassVar[Sequence[Filter]] = (
        lists.prefix("act", "Act begins with", placeholder="payouts."),
        lists.exact("actor_id", "Actor id"),
        lists.exact("subject_id", "Subject id"),
        lists.since("recorded_at", "When", now=clock.now),
    )

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        if request.user.has_perm("accounts.manage_staff"):
            return rows.filter(organization_id=None)
        return for_staff(request.user, rows)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[AuditEvent]) -> None:
        self.admin_site.name_people(request, rows)  # type: ignore[attr-defined]  # our site's

    @override
    def headline(self, obj: AuditEvent) -> str:
        return obj.act

    def when(self, obj: AuditEvent) -> SafeString:
        return cells.link(self.url_of(obj), cells.instant(obj.recorded_at))

    def what(self, obj: AuditEvent) -> SafeString:
        return cells.code(obj.act)

    def who(self, obj: AuditEvent) -> SafeString:
        return _who(obj, obj.actor_kind, obj.actor_id)

    def subject(self, obj: AuditEvent) -> SafeString:
        """Name what it was done to; linked, where it is on a screen that stands for its model."""
        kind = obj.subject_type.split(".")[-1]
        url = self.admin_site.url_of_row(obj.subject_type, obj.subject_id)  # type: ignore[attr-defined]  # our site's
        return format_html("{} {}", kind, cells.cut(obj.subject_id, url=url))

    def outcome(self, obj: AuditEvent) -> SafeString:
        return cells.state(obj.outcome, label=obj.code or obj.outcome)

    @override
    def get_facts(self, request: HttpRequest, obj: AuditEvent) -> list[Fact]:
        shown = super().get_facts(request, obj)
        shown.append(Fact("Reason", cells.text(obj.reason), wide=True))
        for title, values in (("Before", obj.before), ("After", obj.after)):
            shown += [
                Fact(f"{title}: {name}", _json(value)) for name, value in (values or {}).items()
            ]
        return shown


@admin.register(OutboxEvent)
class OutboxEventAdmin(RecordAdmin[OutboxEvent]):
    """The event log: past facts, never changed."""

    view_capability = "webhooks.view_delivery"
    prefix = "evt"
    title = "Events"
    related: ClassVar[Sequence[str]] = ()
    is_ordered_by_organization = True
    intro = "What happened, in the words that clients are told. An event is never changed."
    empty = "Nothing has happened yet."
    search_hint = "evt_… or the id of what it is about"
    list_display = ("id", "kind", "about", "place", "occurred_at", "who", "told")
    facts = (
        "id",
        "kind",
        "about",
        "place",
        "occurred_at",
        "recorded_at",
        "who",
        "told",
        "request_id",
        "caused_by",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.searched("type", "Type", placeholder="payout.settled"),
    )

    @override
    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Name the organization that is searched: no index has types, which all would pay for."""
        own = super().get_filters(request)
        return lists.of_one_organization(own) if self._type(request) else own

    @override
    def get_page(
        self, request: HttpRequest, rows: QuerySet[OutboxEvent]
    ) -> tuple[list[OutboxEvent], str, str]:
        type_ = self._type(request)
        if not type_:
            return super().get_page(request, rows)
        organization = self.admin_site.chosen_organization(request)  # type: ignore[attr-defined]  # our site's
        if organization is None:
            return [], "", ""
        return self.keyset.sifted(
            rows.filter(organization_id=organization.pk),
            Q(type=type_),
            after=request.GET.get("after", ""),
            before=request.GET.get("before", ""),
        )

    @override
    def total(
        self,
        request: HttpRequest,
        rows: QuerySet[OutboxEvent],
        page: list[OutboxEvent],
        previous: str,
        following: str,
    ) -> str:
        if not self._type(request) or not (previous or following):
            return super().total(request, rows, page, previous, following)
        return f"{len(page):,} {'row' if len(page) == 1 else 'rows'} on this page"

    def _type(self, request: HttpRequest) -> str:
        """Return the type that is looked for, unless one row is sought by its name."""
        sought = lists.typed(request.GET.get("q", ""))
        return "" if sought else lists.typed(request.GET.get("type", ""))

    @override
    def headline(self, obj: OutboxEvent) -> str:
        return obj.type

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[OutboxEvent], text: str
    ) -> QuerySet[OutboxEvent]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        seen = self.admin_site.all_organization_ids(request)  # type: ignore[attr-defined]  # our site's
        return rows & queries.list_events_about(organization_ids=seen, aggregate_id=text)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[OutboxEvent]) -> None:
        self.admin_site.name_people(request, rows)  # type: ignore[attr-defined]  # our site's

    @shown("Type")
    def kind(self, obj: OutboxEvent) -> SafeString:
        return cells.code(obj.type)

    def about(self, obj: OutboxEvent) -> SafeString:
        return self.admin_site.autolink(obj.aggregate_id)  # type: ignore[attr-defined, no-any-return]  # our site's

    @shown("By")
    def who(self, obj: OutboxEvent) -> SafeString:
        return _who(obj, *obj.actor.split(":", maxsplit=1))

    def caused_by(self, obj: OutboxEvent) -> SafeString:
        return cells.row_link("core_outboxevent", self.prefix, obj.causation_id)

    @shown(align="end")
    def place(self, obj: OutboxEvent) -> SafeString:
        return cells.number(obj.sequence)

    @shown("Told to clients")
    def told(self, obj: OutboxEvent) -> SafeString:
        return cells.yes_no(obj.public)

    @override
    def get_facts(self, request: HttpRequest, obj: OutboxEvent) -> list[Fact]:
        shown = super().get_facts(request, obj)
        return shown + [Fact(name, self._told(value)) for name, value in obj.data.items()]

    def _told(self, value: Any) -> SafeString:  # noqa: ANN401  (whatever an event carries)
        if isinstance(value, str):
            return self.admin_site.autolink(value)  # type: ignore[attr-defined, no-any-return]  # our site's
        return _json(value)

    @override
    def get_tables(self, request: HttpRequest, obj: OutboxEvent) -> list[Table]:
        reach = (obj.sequence - EVENTS_AROUND, obj.sequence + EVENTS_AROUND)
        rows = list(
            queries.list_events_about(
                organization_ids=[obj.organization_id], aggregate_id=obj.aggregate_id
            )
            .filter(aggregate_type=obj.aggregate_type, sequence__range=reach)
            .order_by("-sequence", "-id")
        )
        if not rows:
            # Of a journal entry: what there is to say of it stands on its own page.
            return []
        self.prepare(request, rows)
        url = reverse(f"{self.admin_site.name}:core_outboxevent_changelist")
        return [
            Table(
                f"Timeline of this {obj.aggregate_type.replace('_', ' ')}",
                (">Place", "Event", "Type", "Happened", "By", "Told to clients"),
                [
                    [
                        self.place(row),
                        cells.text("this one") if row.pk == obj.pk else self.id_cell(row),
                        self.kind(row),
                        cells.instant(row.occurred_at),
                        self.who(row),
                        self.told(row),
                    ]
                    for row in rows
                ],
                more_url=f"{url}?{urlencode({'q': obj.aggregate_id})}",
                more_label="All of its events",
            )
        ]


def _who(row: Any, kind: str, id_: str = "") -> SafeString:  # noqa: ANN401  (an event or an act)
    """Name the person; a key by its id, which is too long to be read, and a job by its own name."""
    named = getattr(row, "person", "")
    if named or len(id_) < UUID_LENGTH:
        return cells.text(named or f"{kind} {id_}".strip())
    return cells.cut(f"{kind.replace('_', ' ')} {id_}", head=14)


def _json(value: Any) -> SafeString:  # noqa: ANN401  (whatever an event or an act carries)
    match value:
        case dict():
            return cells.code(value)
        case list() if all(isinstance(one, str) for one in value):
            return cells.words(value)
        case list():
            return cells.code(value)
        case bool():
            return cells.yes_no(value)
        case _:
            return cells.text(value)


@admin.register(JobRun)
class JobRunAdmin(RecordAdmin[JobRun]):
    """One period of a scheduled job each."""

    view_capability = "core.requeue_work"
    title = "Jobs"
    scope_column = ""
    related: ClassVar[Sequence[str]] = ()
    intro = (
        "How every declared job stands, and below its periods: one row each, run once however many "
        "schedulers there are."
    )
    empty = "No job has been planned yet; the scheduler plans within a quarter of a minute."
    list_display = ("name", "period", "state", "attempts", "created_at", "finished_at", "fault")
    keyset = Keyset()
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", WorkState.choices),
        lists.exact("kind", "Job"),
    )

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return rows

    @override
    def list_extra(self, request: HttpRequest) -> dict[str, Any]:
        # Who narrows the periods, or walks through them, has seen how the jobs stand.
        if request.GET:
            return {}
        now = clock.database_now()
        return {"tables_before": [jobs_table(stuck.list_jobs(now=now), now=now)]}

    @override
    def headline(self, obj: JobRun) -> str:
        return f"{obj.kind}, {obj.period}"

    def name(self, obj: JobRun) -> SafeString:
        return cells.link(self.url_of(obj), obj.kind)

    def fault(self, obj: JobRun) -> SafeString:
        return cells.code(obj.last_error_code)

    @override
    def get_facts(self, request: HttpRequest, obj: JobRun) -> list[Fact]:
        found = super().get_facts(request, obj)
        if obj.state in SET_ASIDE:
            # The site's page of stuck work releases every kind of row, and so this one.
            url = reverse(f"{self.admin_site.name}:stuck_row", args=[JOBS_KIND, obj.pk])
            found.append(Fact("Waits for a person", cells.link(url, "Release it")))
        return found
