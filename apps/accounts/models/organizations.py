"""Tenants, and the keys that speak for them."""

from datetime import timedelta
from typing import Final, override

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.lookups import Exact

from apps.accounts.models.staff import Staff
from apps.accounts.states import Mode
from apps.core.constraints import OwnedKey
from apps.core.ids import new_id
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import Guard, frozen_columns, never_deleted

KEY_LIFE_MAX: Final = timedelta(days=365)


class Organization(models.Model):
    """
    A tenant. Its test data lives under a row of its own, the twin of the live one.

    So `organization_id` alone keeps modes apart, as it keeps tenants apart.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=200)
    mode = models.CharField(max_length=4, choices=Mode)
    live_twin = models.OneToOneField(
        "self", null=True, on_delete=models.PROTECT, related_name="test_twin"
    )
    time_zone = models.CharField(max_length=64, default="UTC", db_comment="IANA name.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="organization_mode_is_known", condition=Q(mode__in=Mode.values)
            ),
            models.CheckConstraint(
                name="organization_has_a_live_twin_iff_test",
                condition=Q(mode="test", live_twin__isnull=False)
                | Q(mode="live", live_twin__isnull=True),
            ),
        ]
        triggers = [
            never_deleted("organization_is_never_deleted"),
            frozen_columns("organization_keeps_its_mode", columns=["id", "mode", "live_twin_id"]),
        ]

    @override
    def __str__(self) -> str:
        return self.name if self.mode == Mode.LIVE else f"{self.name} (test)"


class ApiKey(OrganizationOwned):
    """
    A key that speaks for an organization. Its secret is not here, only the HMAC of it.

    The person who issued it stands behind what it does: `actor.principal`.
    """

    key_id = models.CharField(max_length=12)
    secret_digest = models.BinaryField(db_comment="HMAC-SHA256 of the secret under the pepper.")
    last4 = models.CharField(max_length=4)
    name = models.CharField(max_length=100)
    scopes = ArrayField(models.CharField(max_length=64))
    addresses = ArrayField(
        models.CharField(max_length=43),
        default=list,
        db_comment="Networks that may use it, in CIDR form; none means any.",
    )
    kassa_version = models.CharField(max_length=10)
    issued_by = models.ForeignKey(Staff, on_delete=models.PROTECT, related_name="+", db_index=False)
    rotated_from = models.UUIDField(null=True, db_comment="The key that this one takes over from.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True, db_comment="To the minute.")

    class Meta:
        indexes = [models.Index(name="api_key_of", fields=["organization", "-id"])]
        constraints = [
            OwnedKey(name="api_key_of_its_organization"),
            # The one key looked up before its organization is known; it belongs to the directory
            # that says which organization, and which cell, a request is for.
            models.UniqueConstraint(name="api_key_id_is_unique", fields=["key_id"]),
            models.CheckConstraint(
                name="api_key_lives_at_most_a_year",
                condition=Q(
                    expires_at__gt=F("created_at"), expires_at__lte=F("created_at") + KEY_LIFE_MAX
                ),
            ),
            models.CheckConstraint(
                name="api_key_is_stored_as_a_digest",
                condition=Exact(
                    Func(
                        F("secret_digest"),
                        function="octet_length",
                        output_field=models.IntegerField(),
                    ),
                    32,
                ),
            ),
            models.CheckConstraint(name="api_key_has_a_scope", condition=Q(scopes__len__gt=0)),
        ]
        triggers = [
            never_deleted("api_key_is_never_deleted"),
            frozen_columns(
                "api_key_is_what_was_issued",
                columns=[
                    "id",
                    "organization_id",
                    "key_id",
                    "secret_digest",
                    "scopes",
                    "kassa_version",
                    "issued_by_id",
                    "created_at",
                ],
            ),
            Guard(
                name="api_key_stays_revoked",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("revoked_at", "expires_at"),
                func=(
                    "IF (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM"
                    " OLD.revoked_at) OR NEW.expires_at > OLD.expires_at THEN"
                    " RAISE EXCEPTION 'a key neither comes back nor lives longer' USING"
                    " ERRCODE = 'check_violation', CONSTRAINT = 'api_key_stays_revoked';"
                    " END IF; RETURN NEW;"
                ),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.name} (…{self.last4})"
