"""Reads of accounts, and the only place here that locks."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Model, Q, QuerySet

from apps.accounts import errors, roles
from apps.accounts.models import (
    ApiKey,
    Contact,
    Customer,
    Mail,
    Organization,
    Staff,
    StaffRole,
    StaffScope,
)
from apps.accounts.rules import ContactData
from apps.core import encryption, statements
from apps.core.actors import Actor

NAME_COLUMN = "accounts_customer.name"
EMAIL_COLUMN = "accounts_customer.email"
CONTACT_NAME_COLUMN = "accounts_contact.name"
CONTACT_EMAIL_COLUMN = "accounts_contact.email"


# --- Organizations ------------------------------------------------------------------------------


def get_organization(*, organization_id: UUID) -> Organization:
    """
    Return the organization.

    :raises OrganizationNotFound: if there is none
    """
    found = Organization.objects.filter(id=organization_id).first()
    if found is None:
        raise errors.OrganizationNotFound("There is no such organization.")
    return found


def get_test_twin(*, organization_id: UUID) -> Organization:
    """
    Return the row under which the organization's test data lives.

    :raises OrganizationNotFound: if the organization is itself a test twin, or is none
    """
    found = Organization.objects.filter(live_twin_id=organization_id).first()
    if found is None:
        raise errors.OrganizationNotFound("There is no such live organization.")
    return found


def find_live_organization(*, name: str) -> Organization | None:
    """Return the oldest live organization of that name, or None."""
    return Organization.objects.filter(name=name, mode="live").order_by("id").first()


# --- API keys -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What authentication needs of a key, in one row."""

    id: UUID
    organization_id: UUID
    mode: str
    secret_digest: bytes
    scopes: frozenset[str]
    addresses: tuple[str, ...]
    kassa_version: str
    issued_by_id: UUID
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


# Asked for each key every few seconds, by every process: past the ORM, which takes longer for it
# than all else of a request that is alone in its transaction.
_STORED_KEYS: Final = """
    SELECT k.key_id, k.id, k.organization_id, o.mode, k.secret_digest, k.scopes, k.addresses,
           k.kassa_version, k.issued_by_id, k.expires_at, k.revoked_at, k.last_used_at
      FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
     WHERE k.key_id = ANY(%(key_ids)s)
"""


def find_stored_keys(*, key_ids: Sequence[str]) -> dict[str, StoredKey]:
    """Return the keys of these key ids, whosoever they are; one indexed query."""
    found = {}
    for key_id, *row in statements.run(_STORED_KEYS, {"key_ids": statements.texts(key_ids)}):
        key = StoredKey(*row)
        found[key_id] = replace(key, scopes=frozenset(key.scopes), addresses=tuple(key.addresses))
    return found


def get_api_key(*, organization_id: UUID, api_key_id: UUID) -> ApiKey:
    """
    Return the key with its organization.

    :raises ApiKeyNotFound: if the organization has no such key
    """
    found = (
        ApiKey.objects.select_related("organization")
        .filter(organization_id=organization_id, id=api_key_id)
        .first()
    )
    if found is None:
        raise errors.ApiKeyNotFound("There is no such API key.")
    return found


def get_api_key_for_update(*, organization_id: UUID, api_key_id: UUID) -> ApiKey:
    """
    Return the key, locked.

    :raises ApiKeyNotFound: if the organization has no such key
    """
    found = (
        ApiKey.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=api_key_id)
        .first()
    )
    if found is None:
        raise errors.ApiKeyNotFound("There is no such API key.")
    return found


def find_idle_key_for_update(
    *, organization_id: UUID, api_key_id: UUID, since: datetime
) -> ApiKey | None:
    """Return the key, locked, if it was not used since; None too if somebody else has it locked."""
    rows = ApiKey.objects.select_for_update(no_key=True, skip_locked=True)
    mine = rows.filter(organization_id=organization_id, id=api_key_id)
    return mine.filter(Q(last_used_at=None) | Q(last_used_at__lt=since)).first()


def list_api_keys(*, organization_id: UUID) -> QuerySet[ApiKey]:
    """Return the organization's keys, newest first."""
    return ApiKey.objects.filter(organization_id=organization_id).order_by("-id")


# --- Customers ----------------------------------------------------------------------------------


def list_customers(*, organization_id: UUID, external_id: str | None = None) -> QuerySet[Customer]:
    """Return the organization's customers, newest first."""
    found = Customer.objects.filter(organization_id=organization_id).order_by("-id")
    return found if external_id is None else found.filter(external_id=external_id)


def get_customer(*, organization_id: UUID, customer_id: UUID) -> Customer:
    """
    Return the customer.

    :raises CustomerNotFound: if the organization has no such customer
    """
    found = Customer.objects.filter(organization_id=organization_id, id=customer_id).first()
    if found is None:
        raise errors.CustomerNotFound("There is no such customer.")
    return found


def get_customer_for_update(*, organization_id: UUID, customer_id: UUID) -> Customer:
    """
    Return the customer, locked: their state does not change before this transaction ends.

    :raises CustomerNotFound: if the organization has no such customer
    """
    found = (
        Customer.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=customer_id)
        .first()
    )
    if found is None:
        raise errors.CustomerNotFound("There is no such customer.")
    return found


def unseal_name(customer: Customer) -> str:
    """Return the customer's name in clear text; who shows it to a person has logged that."""
    return encryption.unseal(
        customer.organization_id, NAME_COLUMN, customer.id, bytes(customer.name_sealed)
    )


def unseal_email(customer: Customer) -> str | None:
    """Return the customer's e-mail in clear text, or None."""
    if customer.email_sealed is None:
        return None
    return encryption.unseal(
        customer.organization_id, EMAIL_COLUMN, customer.id, bytes(customer.email_sealed)
    )


# --- Contacts -----------------------------------------------------------------------------------


def list_contacts(*, organization_id: UUID) -> QuerySet[Contact]:
    """Return the organization's contacts, oldest first; not those that were removed."""
    rows = Contact.objects.filter(organization_id=organization_id, removed_at=None)
    return rows.order_by("id")


def list_contacts_to_tell(
    *, organization_id: UUID, purposes: Collection[str], actor: Actor
) -> list[Contact]:
    """
    Return who is to hear about any of these, but for the one who acts, if that is a contact.

    A member of staff is known by the e-mail. Behind a key stands whoever holds it, so nobody is
    left out: what a stolen key does is told to everybody.
    """
    found = list_contacts(organization_id=organization_id).filter(purposes__overlap=list(purposes))
    if actor.kind == "staff":
        staff = Staff.objects.get(id=UUID(actor.id))
        own = contact_email_index(organization_id=organization_id, email=staff.email)
        found = found.exclude(email_index=own)
    return list(found)


def get_contact(*, organization_id: UUID, contact_id: UUID) -> Contact:
    """
    Return the contact, also one that was removed.

    :raises ContactNotFound: if the organization has never had such a contact
    """
    found = Contact.objects.filter(organization_id=organization_id, id=contact_id).first()
    if found is None:
        raise errors.ContactNotFound("There is no such contact.")
    return found


def get_contact_for_update(*, organization_id: UUID, contact_id: UUID) -> Contact:
    """
    Return the contact, locked.

    :raises ContactNotFound: if the organization has no such contact, or it was removed
    """
    found = (
        Contact.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=contact_id, removed_at=None)
        .first()
    )
    if found is None:
        raise errors.ContactNotFound("There is no such contact.")
    return found


def contact_email_index(*, organization_id: UUID, email: str) -> bytes:
    """Return what an address is compared by, in any case of letters."""
    return encryption.blind_index(organization_id, "contact.email", email.strip().lower())


def find_contact_by_email_index(*, organization_id: UUID, email_index: bytes) -> Contact | None:
    """Return the contact with this address, or None."""
    return Contact.objects.filter(organization_id=organization_id, email_index=email_index).first()


def unseal_contacts(contacts: Iterable[Contact]) -> dict[UUID, ContactData]:
    """
    Return name and address of each in clear text, by id; nothing of those that were removed.

    Each organization's key is read once. Who shows them to a person masks them.
    """
    unseal: dict[UUID, Callable[[str, UUID, bytes], str]] = {}
    found = {}
    for one in contacts:
        if one.name_sealed is None or one.email_sealed is None:
            continue
        owner = one.organization_id
        opened = unseal.setdefault(owner, encryption.unsealer(owner))
        found[one.id] = ContactData(
            name=opened(CONTACT_NAME_COLUMN, one.id, bytes(one.name_sealed)),
            email=opened(CONTACT_EMAIL_COLUMN, one.id, bytes(one.email_sealed)),
        )
    return found


def list_mails(*, organization_id: UUID, contact_id: UUID) -> QuerySet[Mail]:
    """Return what the contact was told, or is to be told, newest first."""
    rows = Mail.objects.filter(organization_id=organization_id, contact_id=contact_id)
    return rows.order_by("-id")


def find_address(mail: Mail) -> str | None:
    """Return where the mail goes, or None if its contact was removed."""
    contact = get_contact(organization_id=mail.organization_id, contact_id=mail.contact_id)
    data = unseal_contacts([contact]).get(contact.id)
    return None if data is None else data.email


# --- Staff --------------------------------------------------------------------------------------


def get_staff_for_update(*, staff_id: UUID, beside: Actor | None = None) -> Staff:
    """
    Return the person, locked; and whoever acts `beside`, who stays as they are meanwhile.

    :raises StaffNotFound: if there is no such person
    """
    # Of two people who shut each other out, the later one waits here and then finds itself out;
    # in the order of their ids, so that neither waits for the other.
    ids = {staff_id} | ({UUID(beside.id)} if beside and beside.kind == "staff" else set())
    rows = Staff.objects.select_for_update(no_key=True).filter(id__in=ids).order_by("id")
    found = next((one for one in list(rows) if one.id == staff_id), None)
    if found is None:
        raise errors.StaffNotFound("There is no such member of staff.")
    return found


def find_staff(*, email: str) -> Staff | None:
    """Return the person with this e-mail, in any case of letters, or None."""
    return Staff.objects.filter(email=email.lower()).first()


def count_admins() -> int:
    """Return how many active admins there are."""
    return StaffRole.objects.filter(role=roles.Role.ADMIN, staff__is_active=True).count()


def list_roles(*, staff_id: UUID) -> frozenset[str]:
    """Return the roles that the person holds now, read afresh."""
    return frozenset(StaffRole.objects.filter(staff_id=staff_id).values_list("role", flat=True))


def for_staff[M: Model](queryset: QuerySet[M], staff: Staff) -> QuerySet[M]:
    """Return the rows of the organizations that this person may see."""
    if not staff.is_active:
        return queryset.none()
    if staff.sees_all_organizations:
        return queryset
    seen = StaffScope.objects.filter(staff=staff).values("organization_id")
    name = "id" if queryset.model is Organization else "organization_id"
    return queryset.filter(**{f"{name}__in": seen})


def lock_organization(*, organization_id: UUID) -> None:
    """
    Lock the organization's row: one at a time decides something about all that it has.

    Rows that name the organization are written meanwhile; locked after work rows, before balances.
    """
    rows = Organization.objects.select_for_update(no_key=True).filter(id=organization_id)
    list(rows.values_list("id", flat=True))


def is_in_scope(*, staff: Staff, organization_id: UUID) -> bool:
    """Say whether the person may see this organization."""
    return for_staff(Organization.objects.filter(id=organization_id), staff).exists()


def find_scopes(*, actor: Actor, organization_id: UUID) -> frozenset[str] | None:
    """Return the scopes of the key that acts; None for staff and jobs, who are not bound by any."""
    if actor.kind != "api_key":
        return None
    return frozenset(get_api_key(organization_id=organization_id, api_key_id=UUID(actor.id)).scopes)


def require_capability(
    *,
    actor: Actor,
    capability: str,
    organization_id: UUID | None = None,
    deciding: bool = False,
) -> None:
    """
    Refuse a member of staff without the capability, read afresh inside the operation.

    Keys and jobs pass: a key's right is its scope, checked on the way in. `deciding` wants someone
    who does it alone or decides what others asked for. The second factor belongs to the session
    and was checked there.

    :raises CapabilityMissing: if no role of this person gives it, or the person is inactive
    :raises OrganizationNotFound: if the person may not see the organization
    """
    if actor.kind != "staff":
        return
    staff = Staff.objects.filter(id=UUID(actor.id), is_active=True).first()
    check = roles.may_decide if deciding else roles.is_allowed
    if staff is None or not check(
        capability, roles=list_roles(staff_id=staff.id), is_verified=True
    ):
        raise errors.CapabilityMissing("None of your roles allows this.", capability=capability)
    if organization_id and not is_in_scope(staff=staff, organization_id=organization_id):
        raise errors.OrganizationNotFound("There is no such organization.")
