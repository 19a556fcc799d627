"""Where an organization is told: endpoints, their secrets, and the lanes to them."""

from typing import Final, override

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, work_indexes
from apps.webhooks.rules.targets import URL_LENGTH_MAX
from apps.webhooks.states import ENDPOINT_MOVES, DisabledReason, EndpointStatus, Ordering

LANES_MAX: Final = 8
LANES_DEFAULT: Final = 4


class WebhookEndpoint(OrganizationOwned):
    """A URL of an organization to which its events are sent, and how it has been answering."""

    url = models.CharField(max_length=URL_LENGTH_MAX)
    description = models.CharField(max_length=500, blank=True, default="")
    event_types = ArrayField(models.CharField(max_length=100))
    api_version = models.CharField(max_length=10)
    status = models.CharField(max_length=8, choices=EndpointStatus, default=EndpointStatus.ENABLED)
    disabled_reason = models.CharField(max_length=9, choices=DisabledReason, blank=True, default="")
    ordering = models.CharField(max_length=9, choices=Ordering, default=Ordering.NONE)
    max_in_flight = models.PositiveSmallIntegerField(default=LANES_DEFAULT)
    lanes = models.PositiveSmallIntegerField(
        default=LANES_DEFAULT,
        db_default=LANES_DEFAULT,
        db_comment="On so many what is owed is spread; max_in_flight once none of them is held.",
    )
    revision = models.PositiveIntegerField(
        default=0,
        db_default=0,
        db_comment="Another one: what a lane's holder was told to send is out of date.",
    )
    is_changing = models.BooleanField(
        default=False,
        db_default=False,
        db_comment="What is open is being brought in line with this row; no lane is opened.",
    )
    resume_from = models.DateTimeField(
        null=True,
        db_comment="What was set aside is being sent from then on, the older canceled; or NULL.",
    )
    # The database's clock, as in the event log: an endpoint gets the events recorded after it.
    created_at = models.DateTimeField(db_default=Now())
    event_sequence = models.PositiveIntegerField(default=0)

    first_failure_at = models.DateTimeField(
        null=True, db_comment="Since when nothing has succeeded; NULL after any success."
    )
    unreached_in_a_row = models.PositiveIntegerField(default=0)
    circuit_openings = models.PositiveIntegerField(default=0)
    circuit_open_until = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(name="webhook_endpoint_of", fields=["organization", "-id"])]
        constraints = [
            OwnedKey(name="webhook_endpoint_of_its_organization"),
            models.CheckConstraint(
                name="webhook_endpoint_has_one_to_eight_lanes",
                condition=Q(max_in_flight__gte=1, max_in_flight__lte=LANES_MAX)
                & Q(lanes__gte=1, lanes__lte=LANES_MAX),
            ),
            models.CheckConstraint(
                name="webhook_endpoint_says_why_it_is_off",
                condition=~Q(status="disabled") | ~Q(disabled_reason=""),
            ),
            models.CheckConstraint(
                name="webhook_endpoint_wants_something", condition=Q(event_types__len__gt=0)
            ),
            models.CheckConstraint(
                name="webhook_endpoint_status_is_known",
                condition=Q(status__in=EndpointStatus.values, ordering__in=Ordering.values),
            ),
        ]
        triggers = [
            never_deleted("webhook_endpoint_is_never_deleted"),
            moves_only("webhook_endpoint_moves", column="status", moves=ENDPOINT_MOVES),
            frozen_columns(
                "webhook_endpoint_stays_with_its_organization",
                columns=["id", "organization_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.description or str(self.pk)

    @property
    def sets_aside(self) -> bool:
        """
        Whether what is owed to it from now on is set aside.

        Not while what was set aside before is still being sent or canceled: then it waits, and is
        set aside after that.
        """
        return self.status == EndpointStatus.DISABLED and self.resume_from is None


class WebhookSecret(OrganizationOwned):
    """One secret of an endpoint; every one that has not expired signs, newest first."""

    endpoint = OwnedForeignKey(WebhookEndpoint)
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, db_comment="NULL: until it is rotated.")

    class Meta:
        indexes = [
            models.Index(name="webhook_secret_of", fields=["organization", "endpoint", "-id"])
        ]
        constraints = [
            SameOrganization(name="webhook_secret_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_endpoint_has_one_lasting_secret",
                fields=["organization", "endpoint"],
                condition=Q(expires_at__isnull=True),
            ),
        ]


class WebhookLane(WorkRow, OrganizationOwned):
    """
    One lane of an endpoint: a work row whose holder sends that lane's deliveries one by one.

    All deliveries about one aggregate are on one lane, so two of them are never under way at once.
    """

    endpoint = OwnedForeignKey(WebhookEndpoint)
    lane = models.PositiveSmallIntegerField()
    is_slow = models.BooleanField(default=False, db_comment="Worked by the slow endpoints' queue.")

    class Meta:
        indexes = work_indexes("webhook_lane")
        constraints = [
            SameOrganization(name="webhook_lane_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_endpoint_has_each_lane_once",
                fields=["organization", "endpoint", "lane"],
            ),
            models.CheckConstraint(
                name="webhook_lane_is_one_of_eight", condition=Q(lane__lt=LANES_MAX)
            ),
        ]


class WebhookChange(WorkRow, OrganizationOwned):
    """
    What an act on an endpoint has left to do about what is open there: a work row, worked in
    portions; one an endpoint, since a later act changes what the portions go by.
    """

    endpoint = OwnedForeignKey(WebhookEndpoint)
    # How far what waits was put on the endpoint's lanes of now.
    after_aggregate = models.CharField(max_length=64, blank=True, default="")
    after_sequence = models.BigIntegerField(null=True, db_comment="NULL: all of it was.")

    class Meta:
        indexes = work_indexes("webhook_change")
        constraints = [
            SameOrganization(name="webhook_change_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_endpoint_has_one_change", fields=["organization", "endpoint"]
            ),
        ]
