"""What contacts are told about endpoints: in the transaction of the act, once, with no secret."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.accounts import queries as accounts
from apps.accounts.models import Mail
from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.webhooks import operations
from apps.webhooks.models import WebhookEndpoint
from apps.webhooks.rules import letters
from apps.webhooks.rules.letters import Told
from tests.accounts.factories import Api, create_contact, create_organization, create_staff
from tests.webhooks import receiver
from tests.webhooks.factories import TESTS, create_endpoint, deliver, make_due, owe

PATH = "/v1/webhook_endpoints"
SECRET_PATH = "/in/t0ken-nobody-sees"
AT = datetime(2026, 11, 26, 13, 40, tzinfo=UTC)
TOLD = Told(endpoint="whe_1", organization="org_1", mode="live", host="hooks.a.example")


@pytest.fixture
def contact(organization):
    return create_contact(organization, "ops@a.example", "technical")


def update(endpoint, *, actor=TESTS, **changes):
    return operations.update_endpoint(
        organization_id=endpoint.organization_id,
        endpoint_id=endpoint.id,
        changes=changes,
        actor=actor,
        now=clock.now(),
    )


def told(contact):
    """Return the mails to a contact, oldest first."""
    return list(Mail.objects.filter(contact=contact).order_by("id"))


class TestDisabling:
    def test_on_410_tells_technical_contacts_once(self, organization, far, contact):
        guard = create_contact(organization, "guard@a.example", "security")
        far.answers = [receiver.answer("410 Gone")]
        endpoint, _ = create_endpoint(organization, f"{far.url}{SECRET_PATH}")
        owe(organization, "thing_1", "thing_2")
        deliver()

        again = operations.disable_unreachable_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            is_gone=True,
            revision=endpoint.revision,
            now=clock.now(),
        )

        assert again is False
        [mail] = told(contact)
        assert told(guard) == []
        assert (mail.kind, mail.about) == (letters.DISABLED, encode_id("whe", endpoint.id))
        assert "410" in mail.body
        assert SECRET_PATH not in mail.subject + mail.body

    def test_by_the_rule_says_since_when(self, organization, far, contact):
        far.answers = [receiver.answer("500 Oh")]
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, *(f"thing_{number}" for number in range(10)))
        deliver()
        since = clock.now() - timedelta(hours=121)
        WebhookEndpoint.objects.filter(id=endpoint.id).update(first_failure_at=since)
        make_due(organization)
        deliver()

        endpoint.refresh_from_db()
        assert endpoint.disabled_reason == "failing"
        [mail] = told(contact)
        assert f"since {since.astimezone(UTC):%d %B %Y, %H:%M} UTC" in mail.body

    def test_by_request_tells_nobody(self, organization, far, contact):
        endpoint, _ = create_endpoint(organization, far.url)
        operations.disable_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            reason="Moving.",
            idempotency_key="off",
            actor=TESTS,
            now=clock.now(),
        )

        assert told(contact) == []

    def test_without_contacts_goes_on_as_before(self, organization, far):
        far.answers = [receiver.answer("410 Gone")]
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        deliver()

        endpoint.refresh_from_db()
        assert endpoint.status == "disabled"
        assert not Mail.objects.exists()


class TestMoving:
    def test_over_the_api_tells_technical_and_security_contacts_which_key(
        self, organization, far, contact
    ):
        guard = create_contact(organization, "guard@a.example", "security")
        money = create_contact(organization, "money@a.example", "finance")
        stranger = create_contact(create_organization(), "them@b.example", "technical")
        twin = accounts.get_test_twin(organization_id=organization.id)
        tester = create_contact(twin, "test@a.example", "technical")
        api = Api(organization, "webhooks:write", "webhooks:read", "payouts:read")
        endpoint, _ = create_endpoint(organization, far.url, event_types=["payout.*"])

        changed = api.patch(
            f"{PATH}/{encode_id('whe', endpoint.id)}", {"url": f"{far.url}{SECRET_PATH}"}
        )

        assert changed.status_code == 200
        [mail], [other] = told(contact), told(guard)
        assert [told(one) for one in (money, stranger, tester)] == [[], [], []]
        assert mail.body == other.body
        assert encode_id("ak", api.key.id) in mail.body
        assert "127.0.0.1 (the same" in mail.body
        assert SECRET_PATH not in mail.subject + mail.body

    def test_again_to_the_same_tells_nobody_again(self, organization, far, contact):
        endpoint, _ = create_endpoint(organization, far.url)
        for _ in range(2):
            update(endpoint, url=f"{far.url}/new")

        assert len(told(contact)) == 1

    def test_is_not_told_of_other_changes(self, organization, far, contact):
        endpoint, _ = create_endpoint(organization, far.url)

        update(endpoint, description="Orders", max_in_flight=2)

        assert told(contact) == []

    def test_rolled_back_tells_nobody(self, organization, far, contact, monkeypatch):
        endpoint, _ = create_endpoint(organization, far.url)

        def break_off(*_, **__):
            transactions.current()
            raise RuntimeError

        # The last statement of the act, after the mail was owed.
        monkeypatch.setattr("apps.webhooks.events.EndpointUpdated.of", break_off)
        with pytest.raises(RuntimeError):
            update(endpoint, url=f"{far.url}/new")

        endpoint.refresh_from_db()
        assert endpoint.url.rstrip("/") == far.url.rstrip("/")
        assert told(contact) == []


class TestLetters:
    def test_say_what_was_switched_off_and_what_to_do(self):
        letter = letters.disabled(TOLD, failing_since=AT - timedelta(days=5), at=AT)

        assert letter.subject == "Kassa: a webhook endpoint was switched off: hooks.a.example"
        assert letter.body == (
            "Kassa has switched off a webhook endpoint of yours, and sends it nothing now.\n"
            "\n"
            "Endpoint: whe_1\n"
            "Organization: org_1 (live data)\n"
            "Host: hooks.a.example\n"
            "Switched off: 26 November 2026, 13:40 UTC\n"
            "Why: No delivery has succeeded since 21 November 2026, 13:40 UTC.\n"
            "\n"
            "What it is owed is kept as long as the events themselves. Once the receiver answers,"
            " enable the endpoint\n"
            "(POST /v1/webhook_endpoints/whe_1/enable) and say what is to become of it.\n"
            "\n"
            "You get this as a contact of the organization. It is sent by a machine that reads no"
            " answer.\n"
        )

    def test_say_from_where_to_where_and_by_whom(self):
        letter = letters.moved(
            TOLD, from_host="old.a.example", by="a member of Kassa's staff", at=AT
        )

        assert "Old host: old.a.example\nNew host: hooks.a.example\n" in letter.body
        assert "Changed: 26 November 2026, 13:40 UTC, by a member of Kassa's staff\n" in letter.body

    def test_of_test_data_say_so_at_once(self):
        test = Told(endpoint="whe_1", organization="org_1", mode="test", host="h.example")

        letter = letters.disabled(test, failing_since=None, at=AT)

        assert letter.subject.startswith("[test] Kassa: ")
        assert "(test data)" in letter.body


class TestWhoDidIt:
    def test_as_staff_is_told_without_a_name(self, organization, far, contact):
        endpoint, _ = create_endpoint(organization, far.url)
        person = Actor.staff(create_staff("support_lead").id)

        update(endpoint, url=f"{far.url}/new", actor=person)

        [mail] = told(contact)
        assert "a member of Kassa's staff" in mail.body
        assert str(person.id) not in mail.body
