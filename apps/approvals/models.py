"""Policies, requests and decisions of the two-person rule. Nothing here knows what is decided."""

from typing import ClassVar, override

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.approvals.states import (
    POLICY_MOVES,
    REQUEST_MOVES,
    PolicyState,
    RequestState,
    Verdict,
)
from apps.core.constraints import OwnedKey, TiedCopy
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted


class ApprovalPolicy(OrganizationOwned):
    """One version of who must agree to an act. Its terms never change; a change is a version."""

    act = models.CharField(max_length=64)
    version = models.PositiveIntegerField()
    terms = models.JSONField(db_comment="Bands, otherwise and extras, as rules.policy_to_json.")
    state = models.CharField(max_length=8, choices=PolicyState, default=PolicyState.PROPOSED)
    proposed_by = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    proposed_at = models.DateTimeField()
    in_force_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "approvals_policy"
        constraints: ClassVar = [
            OwnedKey(name="approval_policy_key"),
            models.UniqueConstraint(
                name="approval_policy_version_is_unique", fields=["organization", "act", "version"]
            ),
            models.UniqueConstraint(
                name="approval_policy_in_force_is_one",
                fields=["organization", "act"],
                condition=Q(state=PolicyState.IN_FORCE),
            ),
            models.CheckConstraint(
                name="approval_policy_state_is_known", condition=Q(state__in=PolicyState.values)
            ),
        ]
        triggers: ClassVar = [
            never_deleted("approval_policies_stay"),
            moves_only("approval_policy_moves", moves=POLICY_MOVES),
            frozen_columns(
                "approval_policy_is_what_was_proposed",
                columns=["id", "organization_id", "act", "version", "terms", "proposed_by"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.act}, version {self.version}"


class ApprovalRequest(OrganizationOwned):
    """
    An act that waits for other people than its requester.

    `snapshot_digest` is what they are asked about; a decision given to other content is void.
    """

    act = models.CharField(max_length=64)
    subject_type = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    state = models.CharField(max_length=9, choices=RequestState, default=RequestState.OPEN)
    steps = models.JSONField(db_comment="Roles and how many people of each, from the policy.")
    policy_version = models.PositiveIntegerField(db_comment="0 is the one that ships.")
    snapshot_digest = models.BinaryField(db_comment="SHA-256 of the subject's canonical JSON.")
    requested_by = models.CharField(max_length=100)
    requester_principal = models.CharField(max_length=64, db_comment="The person behind it.")
    requested_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "approvals_request"
        indexes: ClassVar = [
            models.Index(
                name="approval_request_of", fields=["organization", "subject_type", "subject_id"]
            ),
            models.Index(
                name="approval_request_open",
                fields=["organization", "expires_at"],
                condition=Q(state=RequestState.OPEN),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="approval_request_key"),
            models.UniqueConstraint(
                name="approval_request_has_one_requester",
                fields=["organization", "id", "requester_principal"],
            ),
            models.UniqueConstraint(
                name="approval_request_open_is_one",
                fields=["organization", "act", "subject_id"],
                condition=Q(state=RequestState.OPEN),
            ),
            models.CheckConstraint(
                name="approval_request_state_is_known",
                condition=Q(state__in=RequestState.values),
            ),
            models.CheckConstraint(
                name="approval_request_is_closed_iff_not_open",
                condition=Q(state=RequestState.OPEN, closed_at__isnull=True)
                | (~Q(state=RequestState.OPEN) & Q(closed_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="approval_request_expires_later",
                condition=Q(expires_at__gt=F("requested_at")),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("approval_requests_stay"),
            moves_only("approval_request_moves", moves=REQUEST_MOVES),
            frozen_columns(
                "approval_request_is_what_was_asked",
                columns=[
                    "id",
                    "organization_id",
                    "act",
                    "subject_type",
                    "subject_id",
                    "steps",
                    "snapshot_digest",
                    "requester_principal",
                    "requested_at",
                    "expires_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.act} of {self.subject_type} {self.subject_id}"


class ApprovalDecision(OrganizationOwned):
    """
    One person's answer. The requester's principal is copied here so that a CHECK can compare.

    The composite key ties the copy to the request: neither ORM nor SQL can write another one.
    """

    request = OwnedForeignKey(ApprovalRequest)
    requester_principal = models.CharField(max_length=64)
    decided_by = models.CharField(max_length=64, db_comment="The deciding person's principal.")
    roles = ArrayField(models.CharField(max_length=32), db_comment="Held when deciding.")
    verdict = models.CharField(max_length=7, choices=Verdict)
    reason = models.CharField(max_length=500)
    snapshot_digest = models.BinaryField()
    decided_at = models.DateTimeField()

    class Meta:
        db_table = "approvals_decision"
        constraints: ClassVar = [
            TiedCopy(
                name="approval_decision_owns_its_request",
                field="request",
                copies=["requester_principal"],
            ),
            models.UniqueConstraint(
                name="approval_decision_is_one_per_person",
                fields=["organization", "request", "decided_by"],
            ),
            models.CheckConstraint(
                name="approval_decision_is_not_the_requesters",
                condition=~Q(decided_by=F("requester_principal")),
            ),
            models.CheckConstraint(
                name="approval_decision_verdict_is_known", condition=Q(verdict__in=Verdict.values)
            ),
        ]
        triggers: ClassVar = [append_only("approval_decisions_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.verdict} by {self.decided_by}"
