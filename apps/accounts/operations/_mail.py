"""E-mails to contacts: owed in the transaction of what they tell, and what became of each."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts import queries
from apps.accounts.models import Mail
from apps.accounts.rules import Letter
from apps.core import context, retention, transactions, work
from apps.core.actors import Actor

MAIL_KIND: Final = "accounts.mail"
# On the database's clock, by which it was made. What is open, or set aside for a person, stays.
_OVER: Final = "state IN ('done', 'failed') AND created_at < now() - interval '90 days'"


@transactions.required
def tell_contacts(
    *, organization_id: UUID, purposes: Collection[str], letter: Letter, actor: Actor
) -> int:
    """
    Owe a letter to each contact that is to hear about any of these purposes; return to how many.

    Who acts is not told what they did, if they are a contact. It is sent after COMMIT, at least
    once: the same Message-ID may come twice.
    """
    contacts = queries.list_contacts_to_tell(
        organization_id=organization_id, purposes=purposes, actor=actor
    )
    Mail.objects.bulk_create(
        Mail(
            organization_id=organization_id,
            contact=contact,
            kind=letter.kind,
            about=letter.about,
            subject=letter.subject,
            body=letter.body,
            traceparent=context.current().traceparent,
        )
        for contact in contacts
    )
    if contacts:
        work.nudge(MAIL_KIND)
    return len(contacts)


@transactions.required
def record_sent(mail: Mail, *, now: datetime) -> None:
    """Record that a mail server has taken it."""
    work.mark_done(mail)
    mail.sent_at = now
    mail.save(update_fields=["sent_at"])


@transactions.required
def record_unwanted(mail: Mail) -> None:
    """Record that it is not sent, since its contact was removed meanwhile."""
    work.mark_done(mail)
    mail.last_error_code = "contact_removed"
    mail.save(update_fields=["last_error_code"])


def purge_mail() -> int:
    """Remove what was sent, or refused for good, 90 days after it was written; return how many."""
    return retention.purge(Mail._meta.db_table, over=_OVER)
