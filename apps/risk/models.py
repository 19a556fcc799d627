"""Limits, the facts they count, and the decisions they led to."""

from typing import ClassVar, override

from django.db import models
from django.db.models import F, Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted
from apps.risk.rules import FACT_MOVES, FactState, Outcome, WindowKind


class LimitScope(models.TextChoices):
    CUSTOMER = "customer"
    EACH_CUSTOMER = "each_customer"
    ORGANIZATION = "organization"


class ActKind(models.TextChoices):
    PAYOUT = "payout"
    PAYMENT = "payment"


class Limit(OrganizationOwned):
    """
    A hard cap on one kind of act in a window. Its terms never change; a change ends it.

    NULL is no cap, 0 lets nothing pass. The zone is fixed with the limit, so that "today" is.
    """

    scope = models.CharField(max_length=13, choices=LimitScope)
    customer = OwnedForeignKey("accounts.Customer", null=True)
    act = models.CharField(max_length=7, choices=ActKind)
    currency = models.CharField(max_length=3)
    window = models.CharField(max_length=13, choices=[(w.value, w.value) for w in WindowKind])
    zone = models.CharField(max_length=64, db_comment="IANA name.")
    max_amount_minor = models.BigIntegerField(null=True)
    max_count = models.PositiveIntegerField(null=True)
    net_of_returns = models.BooleanField(default=True)
    set_by = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    set_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "risk_limit"
        indexes: ClassVar = [
            models.Index(
                name="limit_in_force",
                fields=["organization", "act", "currency"],
                condition=Q(ended_at__isnull=True),
            )
        ]
        constraints: ClassVar = [
            OwnedKey(name="limit_key"),
            SameOrganization(name="limit_owns_its_customer", field="customer"),
            models.UniqueConstraint(
                name="limit_in_force_is_one",
                fields=["organization", "scope", "customer", "act", "currency", "window"],
                condition=Q(ended_at__isnull=True),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="limit_scope_is_known", condition=Q(scope__in=LimitScope.values)
            ),
            models.CheckConstraint(
                name="limit_names_a_customer_iff_it_is_for_one",
                condition=Q(scope=LimitScope.CUSTOMER, customer__isnull=False)
                | (~Q(scope=LimitScope.CUSTOMER) & Q(customer__isnull=True)),
            ),
            models.CheckConstraint(
                name="limit_caps_something",
                condition=Q(max_amount_minor__gte=0) | Q(max_count__isnull=False),
            ),
            models.CheckConstraint(
                name="limit_amount_is_not_negative",
                condition=Q(max_amount_minor__isnull=True) | Q(max_amount_minor__gte=0),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("limits_stay"),
            frozen_columns(
                "limit_is_what_was_set",
                columns=[
                    "id",
                    "organization_id",
                    "scope",
                    "customer_id",
                    "act",
                    "currency",
                    "window",
                    "zone",
                    "max_amount_minor",
                    "max_count",
                    "net_of_returns",
                    "set_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.act} in {self.currency} by {self.scope}"


class Scope(OrganizationOwned):
    """The row that acts counted together lock: whoever holds it reads usage nobody changes."""

    scope_type = models.CharField(max_length=12)
    scope_value = models.UUIDField()

    class Meta:
        db_table = "risk_scope"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="risk_scope_is_one", fields=["organization", "scope_type", "scope_value"]
            )
        ]


class Fact(OrganizationOwned):
    """One act as limits and features count it; its state only rises."""

    subject_type = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    turn = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=7, choices=ActKind)
    state = models.CharField(max_length=8, choices=[(s.value, s.value) for s in FactState])
    amount_minor = models.BigIntegerField()
    returned_minor = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    customer = OwnedForeignKey("accounts.Customer")
    destination_fingerprint = models.BinaryField(null=True)
    actor = models.CharField(max_length=100)
    occurred_at = models.DateTimeField(db_comment="The act's business time; windows go by it.")

    class Meta:
        db_table = "risk_fact"
        indexes: ClassVar = [
            models.Index(
                name="fact_of_customer",
                fields=["organization", "customer", "kind", "currency", "occurred_at"],
            ),
            models.Index(
                name="fact_of_organization",
                fields=["organization", "kind", "currency", "occurred_at"],
            ),
        ]
        constraints: ClassVar = [
            SameOrganization(name="fact_owns_its_customer", field="customer"),
            models.UniqueConstraint(
                name="fact_is_one_per_turn",
                fields=["organization", "subject_type", "subject_id", "turn"],
            ),
            models.CheckConstraint(
                name="fact_returns_at_most_its_amount",
                condition=Q(returned_minor__gte=0, returned_minor__lte=F("amount_minor")),
            ),
            models.CheckConstraint(
                name="fact_state_is_known",
                condition=Q(state__in=[state.value for state in FactState]),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("facts_stay"),
            moves_only("fact_moves", moves=FACT_MOVES),
            frozen_columns(
                "fact_is_what_happened",
                columns=[
                    "id",
                    "organization_id",
                    "subject_type",
                    "subject_id",
                    "turn",
                    "kind",
                    "amount_minor",
                    "currency",
                    "customer_id",
                    "occurred_at",
                ],
            ),
        ]


class Decision(OrganizationOwned):
    """What risk said of one act, and every number that led there. Append-only."""

    kind = models.CharField(max_length=7, choices=ActKind)
    subject_type = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    trigger = models.CharField(max_length=64)
    outcome = models.CharField(max_length=16, choices=[(o.value, o.value) for o in Outcome])
    public_code = models.CharField(max_length=64, default="")
    customer = OwnedForeignKey("accounts.Customer")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    limits = models.JSONField(db_comment="Each limit that applied: window, max, used, remaining.")
    engine_version = models.PositiveSmallIntegerField()
    actor = models.CharField(max_length=100)
    decided_at = models.DateTimeField()

    class Meta:
        db_table = "risk_decision"
        constraints: ClassVar = [
            OwnedKey(name="decision_key"),
            SameOrganization(name="decision_owns_its_customer", field="customer"),
            models.UniqueConstraint(
                name="decision_is_one_per_trigger",
                fields=["organization", "kind", "subject_type", "subject_id", "trigger"],
            ),
        ]
        triggers: ClassVar = [append_only("decisions_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.outcome} on {self.subject_type} {self.subject_id}"
