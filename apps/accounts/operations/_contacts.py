"""Contacts: whom an organization has us tell what concerns it."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.accounts import errors, queries
from apps.accounts.models import Contact
from apps.accounts.rules import ContactData, masked_email
from apps.accounts.states import Purpose
from apps.core import audit, encryption, idempotency, text, transactions
from apps.core.actors import Actor

# Two who give one address to two contacts at once: the loser runs again and finds the winner's.
transactions.run_again_on_unique("contact_address_is_unique")

EDIT: Final = "accounts.edit_contact"
NAME_LENGTH_MAX: Final = 200
EMAIL_LENGTH_MAX: Final = 254


@transactions.outermost
def add_contact(
    *,
    organization_id: UUID,
    name: str,
    email: str,
    purposes: Collection[str],
    reason: str = "",
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Contact:
    """
    Add a contact, who is told of these purposes from now on.

    Replaying the key returns the contact as it is now.

    :raises MalformedContact: if there is no name, address or known purpose
    :raises CapabilityMissing: if the actor is staff without `accounts.edit_contact`
    :raises ContactAddressTaken: if another contact of the organization has this address
    """
    data, wanted = _checked(name, email), _known(purposes)
    index = queries.contact_email_index(organization_id=organization_id, email=data.email)
    # Keyed digests: the key table holds nothing from which a name could be guessed.
    named = encryption.blind_index(organization_id, "contact.name", data.name)
    claim = idempotency.claim(
        organization_id, idempotency_key, "add_contact", named, index, wanted, reason, prefix="con"
    )
    queries.require_capability(actor=actor, capability=EDIT, organization_id=organization_id)
    if claim.replayed:
        return queries.get_contact(organization_id=organization_id, contact_id=claim.resource_id)

    contact = Contact(
        id=claim.resource_id, organization_id=organization_id, purposes=wanted, created_at=now
    )
    _seal(contact, data)
    contact.save(force_insert=True)
    audit.record(
        "accounts.add_contact", contact, actor=actor, reason=reason, after=_masked(contact, data)
    )
    return contact


@transactions.outermost
def change_contact(
    *,
    organization_id: UUID,
    contact_id: UUID,
    name: str | None = None,
    email: str | None = None,
    purposes: Collection[str],
    reason: str = "",
    actor: Actor,
) -> Contact:
    """
    Change what a contact is told about, and the name or the address where one is given.

    The same again changes nothing, so it needs no key.

    :raises MalformedContact: if a name, the address or a purpose makes no sense
    :raises CapabilityMissing: if the actor is staff without `accounts.edit_contact`
    :raises ContactNotFound: if the organization has no such contact
    :raises ContactAddressTaken: if another contact of the organization has this address
    """
    wanted = _known(purposes)
    queries.require_capability(actor=actor, capability=EDIT, organization_id=organization_id)
    contact = queries.get_contact_for_update(organization_id=organization_id, contact_id=contact_id)
    [known] = queries.unseal_contacts([contact]).values()
    data = _checked(known.name if name is None else name, known.email if email is None else email)
    before = _masked(contact, known)
    changed = [each for each in ("name", "email") if getattr(data, each) != getattr(known, each)]
    if not changed and wanted == contact.purposes:
        return contact
    contact.purposes = wanted
    _seal(contact, data)
    contact.save(update_fields=["purposes", "name_sealed", "email_sealed", "email_index"])
    # What is masked may look the same before and after.
    after = _masked(contact, data) | ({"changed": changed} if changed else {})
    audit.record(
        "accounts.change_contact", contact, actor=actor, reason=reason, before=before, after=after
    )
    return contact


@transactions.outermost
def remove_contact(
    *,
    organization_id: UUID,
    contact_id: UUID,
    reason: str = "",
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Contact:
    """
    Remove a contact: name and address are forgotten, and what was still to be sent is not.

    Replaying the key returns the contact as it is now.

    :raises CapabilityMissing: if the actor is staff without `accounts.edit_contact`
    :raises ContactNotFound: if the organization has no such contact
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "remove_contact",
        contact_id,
        reason,
        prefix="con",
        acts_on=contact_id,
    )
    queries.require_capability(actor=actor, capability=EDIT, organization_id=organization_id)
    if claim.replayed:
        return queries.get_contact(organization_id=organization_id, contact_id=contact_id)
    contact = queries.get_contact_for_update(organization_id=organization_id, contact_id=contact_id)
    [known] = queries.unseal_contacts([contact]).values()
    before = _masked(contact, known)
    contact.name_sealed = contact.email_sealed = contact.email_index = None
    contact.removed_at = now
    contact.save(update_fields=["name_sealed", "email_sealed", "email_index", "removed_at"])
    audit.record("accounts.remove_contact", contact, actor=actor, reason=reason, before=before)
    return contact


def _checked(name: str, email: str) -> ContactData:
    try:
        data = ContactData(name=text.clean(name.strip()), email=email.strip())
    except text.TextRefused as refused:
        raise errors.MalformedContact(str(refused)) from None
    if not 0 < len(data.name) <= NAME_LENGTH_MAX:
        raise errors.MalformedContact(f"A name has 1 to {NAME_LENGTH_MAX} characters.")
    try:
        validate_email(data.email)
    except ValidationError:
        raise errors.MalformedContact("This is no e-mail address.") from None
    if len(data.email) > EMAIL_LENGTH_MAX:
        raise errors.MalformedContact(f"An address has at most {EMAIL_LENGTH_MAX} characters.")
    return data


def _known(purposes: Collection[str]) -> list[str]:
    wanted = sorted({str(each) for each in purposes})
    if not wanted or not set(wanted) <= set(Purpose.values):
        raise errors.MalformedContact(
            "A contact has at least one purpose, of those that are known.", purposes=Purpose.values
        )
    return wanted


def _seal(contact: Contact, data: ContactData) -> None:
    owner = contact.organization_id
    index = queries.contact_email_index(organization_id=owner, email=data.email)
    other = queries.find_contact_by_email_index(organization_id=owner, email_index=index)
    if other is not None and other.id != contact.id:
        raise errors.ContactAddressTaken("Another contact has this address.")
    seal = encryption.sealer(owner)
    contact.name_sealed = seal(queries.CONTACT_NAME_COLUMN, contact.id, data.name)
    contact.email_sealed = seal(queries.CONTACT_EMAIL_COLUMN, contact.id, data.email)
    contact.email_index = index


def _masked(contact: Contact, data: ContactData) -> dict[str, object]:
    return {"email": masked_email(data.email), "purposes": list(contact.purposes)}
