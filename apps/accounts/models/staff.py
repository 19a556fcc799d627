"""Our own people: what each of them may do, and which organizations they see."""

from typing import Any, ClassVar, Final, override

import pgtrigger
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

import apps.accounts
from apps.accounts import roles
from apps.core.ids import new_id
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import Guard, body, never_deleted

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

    @staticmethod
    def holders_of(capability: str) -> list[str]:
        """Return whose an act is, role by role, as people read it."""
        return sorted(role.replace("_", " ") for role in roles.CAPABILITIES[capability].holders)

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
                func=body(apps.accounts.__file__, "staff_role_pair_is_allowed"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.role


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
