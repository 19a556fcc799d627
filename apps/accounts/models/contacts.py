"""Whom an organization has us tell what concerns it, and what they are told by e-mail."""

from typing import override

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.states import Purpose
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, kept_for_a_month, never_deleted
from apps.core.work import WorkRow, work_indexes


class Contact(OrganizationOwned):
    """
    Somebody at an organization who is told what concerns it; name and e-mail are encrypted.

    Of one that was removed the row is left, which mails point at, with neither of the two.
    """

    purposes = ArrayField(models.CharField(max_length=9, choices=Purpose))
    name_sealed = models.BinaryField(null=True)
    email_sealed = models.BinaryField(null=True)
    email_index = models.BinaryField(null=True, db_comment="Blind index, for exact comparison.")
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            OwnedKey(name="contact_of_its_organization"),
            models.UniqueConstraint(
                name="contact_address_is_unique", fields=["organization", "email_index"]
            ),
            models.CheckConstraint(
                name="contact_hears_of_something_known",
                condition=Q(purposes__len__gt=0, purposes__contained_by=Purpose.values),
            ),
            models.CheckConstraint(
                name="contact_is_blank_iff_removed",
                condition=Q(
                    removed_at__isnull=True,
                    name_sealed__isnull=False,
                    email_sealed__isnull=False,
                    email_index__isnull=False,
                )
                | Q(
                    removed_at__isnull=False,
                    name_sealed__isnull=True,
                    email_sealed__isnull=True,
                    email_index__isnull=True,
                ),
            ),
        ]
        triggers = [
            never_deleted("contact_is_never_deleted"),
            frozen_columns(
                "contact_stays_with_its_organization",
                columns=["id", "organization_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return str(self.pk)


class Mail(WorkRow, OrganizationOwned):
    """
    One e-mail to one contact: a work row until a mail server has taken it, or refused it for good.

    Its id makes the Message-ID. The address is the contact's own, read when it is sent.
    """

    contact = OwnedForeignKey(Contact)
    kind = models.CharField(
        max_length=50, db_comment="What it tells, such as webhook_endpoint.moved."
    )
    about = models.CharField(max_length=64, db_comment="The printed id of what it is about.")
    subject = models.CharField(max_length=400)
    body = models.TextField()
    # The database's clock, which also says when it has been kept for long enough.
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            *work_indexes("mail", owner="organization"),
            models.Index(name="mail_to_contact", fields=["organization", "contact", "-id"]),
        ]
        constraints = [
            SameOrganization(name="mail_is_to_a_contact_of_its_own", field="contact"),
            models.CheckConstraint(
                name="mail_that_was_sent_is_done", condition=Q(sent_at=None) | Q(state="done")
            ),
        ]
        triggers = [
            frozen_columns(
                "mail_says_what_it_said",
                columns=[
                    "id",
                    "organization_id",
                    "contact_id",
                    "kind",
                    "about",
                    "subject",
                    "body",
                    "created_at",
                ],
            ),
            never_deleted("mail_is_never_deleted", removable=True),
            kept_for_a_month("mail_is_kept", unless="OLD.state NOT IN ('done', 'failed')"),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.state}"
