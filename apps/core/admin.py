"""Staff screens of the core: the audit trail, the event log, scheduled jobs."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Fact, Filter, Keyset, RecordAdmin, cells, lists, shown
from apps.core.admin_base.records import for_staff
from apps.core.ids import decode_id
from apps.core.jobs import JOBS_KIND
from apps.core.models import AuditEvent, JobRun, OutboxEvent
from apps.core.work import SET_ASIDE, WorkState


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
        return cells.text(getattr(obj, "person", "") or f"{obj.actor_kind} {obj.actor_id}")

    def subject(self, obj: AuditEvent) -> SafeString:
        return cells.cut(f"{obj.subject_type.split('.')[-1]} {obj.subject_id}", head=14)

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
    intro = "What happened, in the words that clients are told. An event is never changed."
    empty = "Nothing has happened yet."
    search_hint = "evt_… or the id of what it is about"
    list_display = ("id", "kind", "about", "place", "occurred_at", "actor", "told")
    filters: ClassVar[Sequence[Filter]] = (
        lists.exact("type", "Type", placeholder="payout.settled"),
    )

    @override
    def headline(self, obj: OutboxEvent) -> str:
        return obj.type

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[OutboxEvent], text: str
    ) -> QuerySet[OutboxEvent]:
        if text.startswith(f"{self.prefix}_"):
            return rows.filter(pk=decode_id(self.prefix, text))
        return rows.filter(aggregate_id=text)

    def kind(self, obj: OutboxEvent) -> SafeString:
        return cells.code(obj.type)

    def about(self, obj: OutboxEvent) -> SafeString:
        return cells.cut(obj.aggregate_id)

    @shown(align="end")
    def place(self, obj: OutboxEvent) -> SafeString:
        return cells.number(obj.sequence)

    @shown("Told to clients")
    def told(self, obj: OutboxEvent) -> SafeString:
        return cells.yes_no(obj.public)

    @override
    def get_facts(self, request: HttpRequest, obj: OutboxEvent) -> list[Fact]:
        shown = super().get_facts(request, obj)
        return shown + [Fact(name, _json(value)) for name, value in obj.data.items()]


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
    intro = "Scheduled jobs: one row per period, run once however many schedulers there are."
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
