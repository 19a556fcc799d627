"""Who there is: tenants and their keys, the customers whose money it is, and our own staff."""

from datetime import timedelta
from typing import Any, ClassVar, Final, override

import pgtrigger
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from apps.accounts import roles
from apps.accounts.states import MOVES, CustomerState, Mode
from apps.core.constraints import OwnedKey
from apps.core.ids import new_id
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import Guard, body, frozen_columns, moves_only, never_deleted

KEY_LIFE_MAX: Final = timedelta(days=365)
ROLE_CHOICES: Final = [(role.value, role.value) for role in roles.Role]


class StaffManager(BaseUserManager["Staff"]):
    """Finds staff by e-mail; people are made by `operations.create_staff`, never here."""

    @override
    def get_by_natural_key(self, username: str | None) -> "Staff":
        return self.get(email=(username or "").lower())


class Staff(AbstractBaseUser):
    """
    One person who works in the back office. There is no superuser.

    `access_version` is part of every session: raising it ends them all at their next request.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(unique=True, error_messages={"unique": "Somebody has this e-mail."})
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    is_superuser = models.BooleanField(default=False, editable=False)
    sees_all_organizations = models.BooleanField(default=False)
    access_version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()

    objects: ClassVar[StaffManager] = StaffManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    # Everybody here may reach the site; what they see there is a matter of roles.
    is_staff: ClassVar[bool] = True

    class Meta:
        verbose_name_plural = "staff"
        constraints = [
            models.CheckConstraint(name="staff_has_no_superuser", condition=Q(is_superuser=False)),
            models.CheckConstraint(
                name="staff_email_is_lower_case", condition=Q(email=Lower(F("email")))
            ),
        ]
        triggers = [never_deleted("staff_is_never_deleted")]

    @override
    def __str__(self) -> str:
        return self.name

    @property
    def is_verified(self) -> bool:
        """
        Whether this session showed a second factor, or none is required here.

        The sign-in sets `second_factor_shown` on the user of a request.
        """
        shown = bool(getattr(self, "second_factor_shown", False))
        return shown or not settings.STAFF_REQUIRES_SECOND_FACTOR

    def role_names(self) -> frozenset[str]:
        """Return the roles held, read once per instance: a request has its own instance."""
        if not hasattr(self, "_role_names"):
            held = StaffRole.objects.filter(staff_id=self.pk).values_list("role", flat=True)
            self._role_names = frozenset(held)
        return self._role_names

    def has_perm(self, perm: str, obj: object = None) -> bool:  # noqa: ARG002 - Django's signature
        """Say whether this person may start the act `perm`, a capability of `roles`."""
        return self.is_active and roles.is_allowed(
            perm, roles=self.role_names(), is_verified=self.is_verified
        )

    def has_perms(self, perm_list: Any, obj: object = None) -> bool:  # noqa: ANN401 - Django's
        """Say whether this person may start all of them."""
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        """Say whether any capability of this app is held."""
        return any(
            name.startswith(f"{app_label}.") and self.has_perm(name) for name in roles.CAPABILITIES
        )

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        # Private in Django, and the one place from which both the session's hash and its
        # fallbacks come.
        mac = super()._get_session_auth_hash(secret=secret)  # type: ignore[misc]  # not in stubs
        return f"{mac}:{self.access_version}"


class StaffRole(models.Model):
    """One role that one person holds, and who gave it; taking it away deletes the row."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    staff = models.ForeignKey(Staff, on_delete=models.PROTECT, related_name="grants")
    role = models.CharField(max_length=32, choices=ROLE_CHOICES)
    granted_by = models.CharField(max_length=64, db_comment="The actor, such as staff:<id>.")
    granted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="staff_role_is_held_once", fields=["staff", "role"]),
            models.CheckConstraint(
                name="staff_role_is_known", condition=Q(role__in=[name for name, _ in ROLE_CHOICES])
            ),
        ]
        triggers = [
            Guard(
                name="staff_role_pair_is_allowed",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update,
                declare=[("other", "text")],
                func=body(__file__, "staff_role_pair_is_allowed"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.role


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


class StaffScope(OrganizationOwned):
    """One organization that one person may see."""

    staff = models.ForeignKey(
        Staff, on_delete=models.PROTECT, related_name="scopes", db_index=False
    )
    granted_by = models.CharField(max_length=64)
    granted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="staff_scope_is_listed_once", fields=["organization", "staff"]
            ),
        ]
        indexes = [models.Index(name="staff_scope_of_staff", fields=["staff", "organization"])]


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


class Customer(OrganizationOwned):
    """The party whose money an organization keeps with us; name and e-mail are encrypted."""

    external_id = models.CharField(max_length=100, null=True)  # noqa: DJ001 - absent is not ""
    name_sealed = models.BinaryField()
    email_sealed = models.BinaryField(null=True)
    email_index = models.BinaryField(null=True, db_comment="Blind index, for exact search.")
    state = models.CharField(max_length=8, choices=CustomerState, default=CustomerState.OPEN)
    frozen_at = models.DateTimeField(null=True)
    frozen_by = models.CharField(max_length=64, blank=True, default="")
    metadata = models.JSONField(default=dict)
    event_sequence = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(name="customer_by_email", fields=["organization", "email_index"]),
        ]
        constraints = [
            OwnedKey(name="customer_of_its_organization"),
            models.UniqueConstraint(
                name="customer_external_id_is_unique", fields=["organization", "external_id"]
            ),
            models.CheckConstraint(
                name="customer_state_is_known", condition=Q(state__in=CustomerState.values)
            ),
            models.CheckConstraint(
                name="customer_is_frozen_by_somebody",
                condition=Q(state="frozen", frozen_at__isnull=False) & ~Q(frozen_by="")
                | ~Q(state="frozen"),
            ),
        ]
        triggers = [
            never_deleted("customer_is_never_deleted"),
            moves_only("customer_moves", moves=MOVES),
            frozen_columns(
                "customer_stays_with_its_organization",
                columns=["id", "organization_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.external_id or str(self.pk)
