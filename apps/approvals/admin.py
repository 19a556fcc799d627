"""The approval inbox: what waits for a second person, and that person's answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, override

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.approvals import operations, queries, registry
from apps.approvals.models import ApprovalDecision, ApprovalPolicy, ApprovalRequest
from apps.approvals.rules import roles_asked, snapshot_digest, steps_from_json
from apps.approvals.states import PolicyState, RequestState, Verdict
from apps.core import clock
from apps.core.admin_base import (
    Act,
    Fact,
    Filter,
    RecordAdmin,
    ReferenceAdmin,
    Table,
    cells,
    lists,
    people,
    shown,
    zone_of,
)

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionAct(Act):
    """An answer to a request: what one must hold is said by the act that is asked about."""

    @override
    def needed(self, subject: ApprovalRequest) -> str:
        return registry.get_act(subject.act).capability


def _is_off(request: ApprovalRequest, user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    if request.requester_principal == f"staff:{user.pk}":
        return "You asked for this yourself. Another person decides it."
    if request.state != RequestState.OPEN:
        return f"It is {request.state} already."
    if clock.now() >= request.expires_at:
        return "The time to decide is over."
    asked = roles_asked(steps_from_json(request.steps))
    if asked.isdisjoint(user.role_names()):
        wanted = " or ".join(sorted(role.replace("_", " ") for role in asked))
        return f"It asks for {wanted}."
    return ""


def _label(verb: str, request: ApprovalRequest) -> str:
    told: Mapping[str, str] = getattr(request, "told", {})
    title = told.get("title", "this request")
    return f"{verb}: {title[:1].lower()}{title[1:]}"


def _said(request: ApprovalRequest) -> str:
    needed, given = queries.count_people(request)
    if request.state == RequestState.OPEN:
        return f"Noted: {given} of {needed}. It waits for somebody else as well."
    return f"It is {request.state} now."


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(RecordAdmin[ApprovalRequest]):
    """What waits for other people than who asked."""

    view_capability = "ledger.view_ledger"
    prefix = "apr"
    aggregate_type = "approval"
    title = "Approvals"
    intro = "Acts that wait for a second person. Nobody decides what they asked for themselves."
    empty = "Nothing waits for anybody. Payouts above the limits of the policy appear here."
    search_hint = "apr_…"
    list_display = ("what", "who", "given", "age", "expires_at", "state", "mine")
    facts = ("id", "who", "requested_at", "expires_at", "given")
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", RequestState.choices, default="open"),
        Filter(
            "for",
            "Whose",
            lambda rows, _value: rows,
            [("me", "For me to decide"), ("all", "Everybody's")],
        ),
    )
    acts = (
        DecisionAct(
            name="approve",
            capability="payouts.approve_payout",
            operation=partial(operations.decide_approval, verdict=Verdict.APPROVE),
            subject="request_id",
            label=partial(_label, "Approve"),
            off=_is_off,
            done=_said,
            presets=("Checked against the invoice.", "Known customer, usual amount."),
            is_always_shown=True,
        ),
        DecisionAct(
            name="deny",
            capability="payouts.approve_payout",
            operation=partial(operations.decide_approval, verdict=Verdict.DENY),
            subject="request_id",
            label=partial(_label, "Deny"),
            off=_is_off,
            done=_said,
            presets=("The customer does not know of it.", "Amount and invoice differ."),
            is_dangerous=True,
            is_always_shown=True,
        ),
    )

    @override
    def get_filters(self, request: HttpRequest) -> list[Filter]:
        mine = Filter(
            "for",
            "Whose",
            lambda rows, _value: rows.filter(_asked_of(request.user)),
            [("me", "For me to decide")],
        )
        own = super().get_filters(request)
        return [mine if filter_.name == "for" else filter_ for filter_ in own]

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[ApprovalRequest]) -> None:
        _describe(rows)
        _count_given(rows)
        names = people(row.requester_principal for row in rows)
        for row in rows:
            row.person = names.get(row.requester_principal, row.requested_by)  # type: ignore[attr-defined]  # attached for the cells
            row.is_mine = row.requester_principal == f"staff:{request.user.pk}"  # type: ignore[attr-defined]  # likewise

    @override
    def headline(self, obj: ApprovalRequest) -> str:
        return _told(obj).get("title", f"{obj.act} of {obj.subject_type}")

    def what(self, obj: ApprovalRequest) -> SafeString:
        return cells.link(self.url_of(obj), self.headline(obj))

    @shown("Asked by")
    def who(self, obj: ApprovalRequest) -> SafeString:
        return cells.text(obj.person)  # type: ignore[attr-defined]  # attached by prepare

    @shown("Agreed")
    def given(self, obj: ApprovalRequest) -> SafeString:
        needed = sum(step.count for step in steps_from_json(obj.steps))
        return cells.text(f"{obj.agreed} of {needed}")  # type: ignore[attr-defined]  # by prepare

    def age(self, obj: ApprovalRequest) -> SafeString:
        return cells.age(obj.requested_at, now=clock.now())

    @shown(" ")
    def mine(self, obj: ApprovalRequest) -> SafeString:
        if obj.is_mine:  # type: ignore[attr-defined]  # attached by prepare
            return cells.state("yours", label="your own: another decides", tone="flat")
        return cells.EMPTY

    @override
    def get_facts(self, request: HttpRequest, obj: ApprovalRequest) -> list[Fact]:
        linked = self.admin_site.autolink  # type: ignore[attr-defined]  # our site's
        told = [
            Fact(name.capitalize(), linked(text))
            for name, text in _told(obj).items()
            if name != "title" and text
        ]
        steps = [
            f"{step.count} {' or '.join(sorted(step.roles))}" for step in steps_from_json(obj.steps)
        ]
        whose = Fact("Organization", cells.text(obj.organization))
        asked = Fact("Asks for", cells.words([step.replace("_", " ") for step in steps]))
        return [*told, whose, asked, *super().get_facts(request, obj)]

    @override
    def get_tables(self, request: HttpRequest, obj: ApprovalRequest) -> list[Table]:
        act = registry.get_act(obj.act)
        snapshot = act.snapshot(obj.organization_id, obj.subject_id)
        decisions = queries.list_decisions(organization_id=obj.organization_id, request_id=obj.id)
        names = people(decision.decided_by for decision in decisions)
        linked = self.admin_site.autolink  # type: ignore[attr-defined]  # our site's
        is_same = snapshot_digest(snapshot) == bytes(obj.snapshot_digest)
        return [
            Table(
                "Answers",
                ("Who", "Verdict", "Why", "When"),
                [
                    [
                        cells.text(names.get(decision.decided_by, decision.decided_by)),
                        cells.state(decision.verdict, label=decision.get_verdict_display()),
                        cells.text(decision.reason),
                        cells.instant(decision.decided_at, zone=zone_of(obj)),
                    ]
                    for decision in decisions
                ],
                empty="Nobody has answered yet.",
            ),
            Table(
                "What is agreed to",
                ("Field", "Value"),
                [
                    [cells.text(name.replace("_", " ")), _agreed(name, value, snapshot, linked)]
                    for name, value in snapshot.items()
                    if value not in {None, ""}
                    and not name.endswith("digest")
                    and name != "organization"
                ],
                note="As it was when it was asked for."
                if is_same
                else "It changed since it was asked for: an answer to it is void.",
            ),
        ]


_MONEY = frozenset({"amount", "fee", "total"})
_DIGEST_LENGTH = 64
_WORD_LENGTH_MAX = 26


def _agreed(
    name: str,
    value: object,
    snapshot: Mapping[str, object],
    linked: Callable[[str], SafeString],
) -> SafeString:
    """Draw one value of a snapshot: money as money, ids as links, digests cut."""
    currency = snapshot.get("currency")
    if name in _MONEY and isinstance(value, int) and isinstance(currency, str):
        return cells.amount(value, currency)
    text = str(value)
    if len(text) == _DIGEST_LENGTH:
        return cells.cut(text)
    is_technical = len(text) > _WORD_LENGTH_MAX and " " not in text
    shown = linked(text)
    # What has no page of its own, such as an account's code, is cut and copied whole.
    return cells.cut(text, head=14, tail=13) if is_technical and shown == text else shown


def _asked_of(user: Any) -> Q:  # noqa: ANN401  (the signed-in person)
    return queries.asks_for(user.role_names()) & ~Q(requester_principal=f"staff:{user.pk}")


def _told(obj: ApprovalRequest) -> Mapping[str, str]:
    told: Mapping[str, str] = obj.told  # type: ignore[attr-defined]  # attached by prepare
    return told


def _describe(rows: Sequence[ApprovalRequest]) -> None:
    """Attach what each request is about, asked of its app once per act and organization."""
    grouped: dict[tuple[str, UUID], list[ApprovalRequest]] = {}
    for row in rows:
        grouped.setdefault((row.act, row.organization_id), []).append(row)
    for (name, organization_id), own in grouped.items():
        act = registry.find_act(name)
        found = act.describe(organization_id, [row.subject_id for row in own]) if act else {}
        for row in own:
            row.told = found.get(row.subject_id, {})  # type: ignore[attr-defined]  # for the cells


def _count_given(rows: Sequence[ApprovalRequest]) -> None:
    decisions = ApprovalDecision.objects.filter(
        organization_id__in={row.organization_id for row in rows},
        request_id__in=[row.id for row in rows],
        verdict=Verdict.APPROVE,
    )
    agreed: dict[UUID, int] = {}
    for request_id in decisions.values_list("request_id", flat=True):
        agreed[request_id] = agreed.get(request_id, 0) + 1
    for row in rows:
        row.agreed = agreed.get(row.id, 0)  # type: ignore[attr-defined]  # for the cells


@admin.register(ApprovalPolicy)
class ApprovalPolicyAdmin(ReferenceAdmin[ApprovalPolicy]):
    """Who must agree to what; a change is a new version, and needs agreement itself."""

    view_capability = "ledger.view_ledger"
    prefix = "apl"
    title = "Approval policies"
    intro = "Who must agree to an act. Where none is listed, the policy that ships is in force."
    empty = "No organization has a policy of its own; the ones that ship are in force."
    list_display = ("id", "act", "version", "state", "proposed_by", "proposed_at", "in_force_at")
    facts = (*list_display, "reason", "terms")
    filters: ClassVar[Sequence[Filter]] = (lists.choice("state", PolicyState.choices),)

    def terms(self, obj: ApprovalPolicy) -> SafeString:
        return cells.code(obj.terms)
