"""Contacts as staff see them: masked, with what they were told, and changed by a support lead."""

import pytest

from apps.accounts import queries
from apps.accounts.models import Contact, Mail, Staff
from apps.core import audit, clock, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.models import AuditEvent
from apps.webhooks import operations as webhooks
from apps.webhooks.models import WebhookEndpoint
from tests.accounts import factories
from tests.backoffice.house import CONTACT_EMAIL, CONTACT_NAME, JOB
from tests.backoffice.test_acts import REASON, perform, url_of

NEW = {"name": "Ola Nord", "email": "ola@demo-markets.example", "purposes": ["finance"]}
CLEAR = (CONTACT_NAME, "Petra", "Holm", CONTACT_EMAIL, "demo-markets")


@pytest.fixture
def contact(house, db):
    return Contact.objects.get(organization_id=house.id)


def shown(browse, row, login="rosa"):
    return browse(login).get(url_of(row)).content.decode()


def known(contact):
    contact.refresh_from_db()
    return queries.unseal_contacts([contact]).get(contact.id)


def owe_mail(house):
    """Have the contact told that an endpoint got another URL."""
    endpoint = WebhookEndpoint.objects.get(organization_id=house.id, description="Old accounting")
    webhooks.update_endpoint(
        organization_id=house.id,
        endpoint_id=endpoint.id,
        changes={"url": "https://new.northwind.example/in"},
        actor=JOB,
        now=clock.now(),
    )


class TestSeeing:
    def test_shows_name_and_address_masked_wherever_they_are(self, browse, house, contact):
        client = browse("rosa")

        for url in ("/admin/accounts/contact/", url_of(contact), url_of(house.organization)):
            text = client.get(url).content.decode()
            assert "p•••@d•••.example" in text
            assert "P••• H•••" in text
            assert not [word for word in CLEAR if word in text]

    def test_shows_what_a_contact_was_told_and_what_refused_it(self, browse, house, contact):
        owe_mail(house)
        Mail.objects.update(state="failed", last_error_code="smtp_550", attempts=1)

        text = shown(browse, contact)

        assert "the URL of a webhook endpoint was changed: new.northwind.example" in text
        assert "smtp_550" in text

    def test_is_not_for_an_admin_nor_for_who_sees_other_organizations(
        self, browse, client, contact
    ):
        elsewhere = factories.create_organization()
        person = factories.create_staff("support_lead", organizations=[elsewhere], sees_all=False)
        client.force_login(person)

        assert browse("bo").get(url_of(contact)).status_code == 403
        assert client.get(url_of(contact)).status_code == 404
        assert client.get(url_of(contact, "remove")).status_code == 404


class TestActs:
    def test_add_a_contact_to_an_organization(self, browse, house):
        answer = perform(browse("liam"), house.organization, "add_contact", **NEW)

        assert answer.status_code == 302
        added = Contact.objects.filter(organization_id=house.id).last()
        assert (known(added).name, known(added).email) == (NEW["name"], NEW["email"])
        assert added.purposes == ["finance"]
        row = AuditEvent.objects.get(act="accounts.add_contact", subject_id=str(added.id))
        assert (row.reason, row.principal) == (REASON, f"staff:{house.people['liam'].pk}")

    def test_say_that_an_address_is_taken_and_add_nothing(self, browse, house, contact):
        sent = NEW | {"email": CONTACT_EMAIL.upper()}

        answer = perform(browse("liam"), house.organization, "add_contact", **sent)

        assert answer.status_code == 422
        assert b"contact_address_taken" in answer.content
        assert Contact.objects.filter(organization_id=house.id).count() == 1

    def test_change_only_what_was_typed_and_show_nothing_in_clear(self, browse, contact):
        client = browse("liam")
        form = client.get(url_of(contact, "change")).content.decode()

        answer = perform(client, contact, "change", email="p@new.example", purposes=["technical"])

        assert answer.status_code == 302
        assert not [word for word in CLEAR if word in form]
        assert (known(contact).name, known(contact).email) == (CONTACT_NAME, "p@new.example")
        assert contact.purposes == ["technical"]

    def test_remove_a_contact_once(self, browse, contact):
        client = browse("liam")

        assert perform(client, contact, "remove").status_code == 302

        text = shown(browse, contact)
        assert known(contact) is None
        assert "removed" in text
        assert perform(client, contact, "remove").status_code == 404

    @pytest.mark.parametrize("login", ["sofia", "noor", "cora", "ada"])
    def test_are_for_a_support_lead_alone(self, browse, house, contact, login):
        client = browse(login)

        for row, act, fields in (
            (house.organization, "add_contact", NEW),
            (contact, "change", {"purposes": ["finance"]}),
            (contact, "remove", {}),
        ):
            answer = client.post(url_of(row, act), {"reason": REASON, **fields})
            assert answer.status_code == 403
            assert b"accounts.edit_contact" in answer.content

        assert known(contact).email == CONTACT_EMAIL
        assert Contact.objects.filter(organization_id=house.id).count() == 1


def test_what_a_key_did_is_not_said_to_be_done_by_whoever_it_was_issued_to(browse, house, contact):
    rosa = Staff.objects.get(email="rosa@kassa.test")
    key = Actor(kind="api_key", id=str(new_id()), principal=f"staff:{rosa.pk}")
    endpoint = WebhookEndpoint.objects.get(organization_id=house.id, description="Old accounting")

    @transactions.outermost
    def act():
        audit.record("webhooks.ping", endpoint, organization_id=house.id, actor=key)

    act()

    assert f"an API key of {rosa}" in shown(browse, endpoint)
