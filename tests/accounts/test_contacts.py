"""Contacts of an organization: added, changed and removed, sealed, and each address once."""

from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.accounts import errors, operations, queries
from apps.accounts.models import Contact
from apps.core import clock
from apps.core.actors import Actor
from apps.core.models import AuditEvent
from tests.accounts.factories import TESTS, create_contact, create_organization, create_staff
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

EMAIL = "lin.okoye@northwind.example"


@pytest.fixture
def organization():
    return create_organization()


def add(organization, **changes):
    return operations.add_contact(
        **{
            "organization_id": organization.id,
            "name": "Lin Okoye",
            "email": EMAIL,
            "purposes": ["technical", "security"],
            "reason": "They asked for it.",
            "idempotency_key": "one",
            "actor": TESTS,
            "now": clock.now(),
        }
        | changes
    )


def change(contact, **changes):
    return operations.change_contact(
        **{
            "organization_id": contact.organization_id,
            "contact_id": contact.id,
            "purposes": contact.purposes,
            "actor": TESTS,
        }
        | changes
    )


def remove(contact, **changes):
    return operations.remove_contact(
        **{
            "organization_id": contact.organization_id,
            "contact_id": contact.id,
            "idempotency_key": "gone",
            "actor": TESTS,
            "now": clock.now(),
        }
        | changes
    )


def known(contact):
    contact.refresh_from_db()
    return queries.unseal_contacts([contact]).get(contact.id)


def trail(contact):
    """Return the acts on a contact, oldest first."""
    rows = AuditEvent.objects.filter(subject_type="accounts.contact", subject_id=str(contact.id))
    return list(rows.order_by("id"))


def stored(contact):
    """Return the whole row as Postgres would print it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT c::text FROM accounts_contact c WHERE id = %s", [contact.id])
        return cursor.fetchone()[0]


class TestAdding:
    def test_seals_name_and_address_and_masks_them_in_the_trail(self, organization):
        contact = add(organization)

        assert contact.purposes == ["security", "technical"]
        assert (known(contact).name, known(contact).email) == ("Lin Okoye", EMAIL)
        for word in ("Lin", "okoye", "northwind"):
            assert word.encode().hex() not in stored(contact)
            assert word not in repr(known(contact))
        [row] = trail(contact)
        assert (row.act, row.reason) == ("accounts.add_contact", "They asked for it.")
        assert row.after == {"email": "l•••@n•••.example", "purposes": ["security", "technical"]}

    def test_with_the_same_key_is_the_same_contact(self, organization):
        contact = add(organization)

        assert add(organization).id == contact.id
        assert Contact.objects.count() == 1
        assert len(trail(contact)) == 1

    def test_of_an_address_twice_is_refused_in_any_case_of_letters(self, organization):
        add(organization)

        with pytest.raises(errors.ContactAddressTaken):
            add(organization, email=EMAIL.upper(), idempotency_key="two")

        assert Contact.objects.count() == 1

    def test_of_the_same_address_elsewhere_is_another_tenants(self, organization):
        other = create_organization()

        mine, theirs = add(organization), add(other)

        assert mine.email_index != theirs.email_index
        assert list(queries.list_contacts(organization_id=other.id)) == [theirs]

    def test_at_once_makes_one(self, organization):
        outcomes = race(
            *(partial(add, organization, idempotency_key=key) for key in ("a", "b", "c"))
        )

        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["Contact", "ContactAddressTaken", "ContactAddressTaken"]
        assert Contact.objects.count() == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "  "},
            {"name": "x" * 201},
            {"name": "Lin\nBcc: x"},
            {"email": "nobody"},
            {"email": "a@b.example\nBcc: c@d.example"},
            {"email": f"{'a' * 60}@{'b' * 63}.{'c' * 63}.{'d' * 63}.example"},
            {"purposes": []},
            {"purposes": ["gossip"]},
        ],
    )
    def test_of_what_makes_no_sense_is_refused(self, organization, changes):
        with pytest.raises(errors.MalformedContact):
            add(organization, **changes)

        assert not Contact.objects.exists()


class TestChanging:
    def test_keeps_what_is_not_given(self, organization):
        contact = add(organization)

        change(contact, purposes=["finance"])

        assert (known(contact).name, known(contact).email) == ("Lin Okoye", EMAIL)
        assert contact.purposes == ["finance"]
        assert trail(contact)[-1].before["purposes"] == ["security", "technical"]
        assert "changed" not in trail(contact)[-1].after

    def test_says_that_an_address_was_changed_where_masks_look_alike(self, organization):
        contact = add(organization)

        change(contact, email="lotte@nowhere.example")

        row = trail(contact)[-1]
        assert row.before["email"] == row.after["email"] == "l•••@n•••.example"
        assert row.after["changed"] == ["email"]
        assert known(contact).email == "lotte@nowhere.example"

    def test_to_the_same_changes_nothing(self, organization):
        contact = add(organization)
        before = stored(contact)

        change(contact, name="Lin Okoye", email=EMAIL)

        assert stored(contact) == before
        assert len(trail(contact)) == 1

    def test_to_anothers_address_is_refused(self, organization):
        contact = add(organization)
        other = create_contact(organization, "ops@northwind.example")

        with pytest.raises(errors.ContactAddressTaken):
            change(other, email=EMAIL)

        assert known(other).email == "ops@northwind.example"
        assert known(contact).email == EMAIL

    def test_two_to_one_address_at_once_changes_one(self, organization):
        contacts = [create_contact(organization, f"{one}@northwind.example") for one in "ab"]

        outcomes = race(*(partial(change, one, email=EMAIL) for one in contacts))

        assert sorted(type(one).__name__ for one in outcomes) == ["Contact", "ContactAddressTaken"]
        assert [known(one).email for one in contacts].count(EMAIL) == 1

    def test_of_another_tenants_is_refused(self, organization):
        contact = add(organization)

        with pytest.raises(errors.ContactNotFound):
            change(contact, organization_id=create_organization().id, purposes=["finance"])

        assert known(contact).email == EMAIL


class TestRemoving:
    def test_forgets_name_and_address_and_frees_the_address(self, organization):
        contact = add(organization)

        remove(contact)

        assert known(contact) is None
        assert (contact.name_sealed, contact.email_sealed, contact.email_index) == (None,) * 3
        assert list(queries.list_contacts(organization_id=organization.id)) == []
        assert trail(contact)[-1].act == "accounts.remove_contact"
        assert add(organization, idempotency_key="again").id != contact.id

    def test_with_the_same_key_is_done_once(self, organization):
        contact = add(organization)
        remove(contact)

        assert remove(contact).id == contact.id
        with pytest.raises(errors.ContactNotFound):
            remove(contact, idempotency_key="anew")
        with pytest.raises(errors.ContactNotFound):
            change(contact, name="Back Again")
        assert len(trail(contact)) == 2


class TestStaff:
    @pytest.mark.parametrize("role", ["support", "finance_approver", "auditor", "admin"])
    def test_without_the_capability_do_none_of_it(self, organization, role):
        contact = add(organization)
        actor = Actor.staff(create_staff(role).id)

        for act in (
            partial(add, organization, email="x@y.example", idempotency_key="x", actor=actor),
            partial(change, contact, purposes=["finance"], actor=actor),
            partial(remove, contact, actor=actor),
        ):
            with pytest.raises(errors.CapabilityMissing):
                act()

        assert known(contact).email == EMAIL
        assert Contact.objects.count() == 1

    def test_of_other_organizations_do_none_of_it(self, organization):
        person = create_staff("support_lead", organizations=[organization], sees_all=False)
        other = create_organization()

        assert add(organization, actor=Actor.staff(person.id)).purposes
        with pytest.raises(errors.OrganizationNotFound):
            add(other, actor=Actor.staff(person.id))


class TestTheDatabase:
    @pytest.mark.parametrize(
        "change", ["email_sealed = NULL", "removed_at = now()", "purposes = '{gossip}'"]
    )
    def test_refuses_what_no_contact_is(self, organization, change):
        contact = add(organization)

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(f"UPDATE accounts_contact SET {change} WHERE id = %s", [contact.id])
