"""The inbox of providers as staff see it: what found no object, linking it, and who was refused."""

import pytest
from django.urls import reverse

from apps.core import clock
from apps.core.models import AuditEvent
from apps.webhooks import operations, registry
from apps.webhooks.models import InboundEvent, ProviderConnection
from apps.webhooks.rules.inbound import Reading
from tests.backoffice.test_acts import REASON, perform, url_of
from tests.webhooks import things
from tests.webhooks.inbox import PRIVATE, message
from tests.webhooks.things import Things, appear, standing

LIST = "admin:webhooks_inboundevent_changelist"


@pytest.fixture
def connection(house, db):
    return ProviderConnection.objects.get(organization_id=house.id)


@pytest.fixture
def unmatched(connection, monkeypatch):
    """An event about a thing that nobody knows, given up after three days."""
    monkeypatch.setattr(registry, "_handlers", {})
    things.register(Things())
    things.create_table()
    operations.receive_event(
        connection=connection,
        reading=Reading(type="thing.paid", object_key="<b>thing", event_id="msg_lost"),
        body=message("thing.paid", "<b>thing"),
        now=clock.now(),
    )
    InboundEvent.objects.filter(event_id="msg_lost").update(outcome="unmatched")
    InboundEvent.objects.filter(event_id="msg_lost").update(state="failed")
    return InboundEvent.objects.get(event_id="msg_lost")


class TestTheList:
    def test_opens_on_what_waits_for_a_person(self, browse, unmatched):
        text = browse("mara").get(reverse(LIST)).content.decode()

        assert "thing.paid" in text
        assert "card.updated" not in text
        assert "card.updated" in browse("mara").get(f"{reverse(LIST)}?outcome=all").content.decode()

    def test_finds_an_event_by_the_providers_id(self, browse, unmatched):
        text = browse("mara").get(f"{reverse(LIST)}?q=msg_lost").content.decode()

        assert url_of(unmatched) in text

    def test_and_the_page_show_nothing_that_the_provider_wrote(self, browse, unmatched):
        for url in (reverse(LIST), url_of(unmatched), url_of(unmatched, "link")):
            text = browse("mara").get(url).content.decode()
            assert "&lt;b&gt;thing" in text
            assert "<b>thing" not in text
            assert "Lovelace" not in text
            assert PRIVATE not in text
            assert bytes(unmatched.sealed_body).hex()[:40] not in text


class TestLinking:
    def test_applies_it_with_the_reason(self, browse, house, unmatched):
        appear(house.organization, "thing_1")

        answer = perform(browse("mara"), unmatched, "link", object_key=" thing_1 ")

        unmatched.refresh_from_db()
        assert answer.status_code == 302
        assert (unmatched.outcome, unmatched.state) == ("applied", "done")
        assert standing(house.organization, "thing_1") == (3, ["msg_lost"])
        row = AuditEvent.objects.get(act="webhooks.link_event")
        assert (row.principal, row.reason) == (f"staff:{house.people['mara'].pk}", REASON)

    def test_to_what_nobody_knows_says_so_and_changes_nothing(self, browse, unmatched):
        answer = perform(browse("mara"), unmatched, "link", object_key="thing_2")

        unmatched.refresh_from_db()
        assert answer.status_code == 422
        assert "nothing of this name" in answer.content.decode()
        assert (unmatched.outcome, unmatched.linked_key) == ("unmatched", "")

    def test_asks_for_a_reason(self, browse, house, unmatched):
        appear(house.organization, "thing_1")

        answer = perform(browse("mara"), unmatched, "link", object_key="thing_1", reason="")

        assert answer.status_code == 400
        assert standing(house.organization, "thing_1") == (0, [])

    @pytest.mark.parametrize("login", ["sofia", "liam", "iris", "ada"])
    def test_is_not_for_everybody(self, browse, house, unmatched, login):
        appear(house.organization, "thing_1")

        assert browse(login).get(url_of(unmatched)).status_code == 200
        answer = perform(browse(login), unmatched, "link", object_key="thing_1")

        assert answer.status_code == 403
        assert standing(house.organization, "thing_1") == (0, [])

    def test_is_off_for_what_has_its_outcome(self, browse, house, db):
        settled = InboundEvent.objects.get(organization_id=house.id, outcome="ignored")

        text = browse("mara").get(url_of(settled)).content.decode()

        assert (
            "It was ignored: its type was not handled. Its connection works it, once it is." in text
        )


class TestConnections:
    def test_show_their_hook_and_the_calls_that_were_not_believed(self, browse, connection):
        text = browse("liam").get(url_of(connection)).content.decode()

        assert "/hooks/sandbox/pvc_" in text
        assert "signature_invalid" in text
        assert "whsec_" not in text


class TestReleasing:
    @pytest.fixture
    def handled(self, connection, monkeypatch):
        """The house's event of a type that nobody handled, after the deploy of its handler."""
        monkeypatch.setattr(registry, "_handlers", {})
        registry.register_inbound(provider="sandbox", type="card.updated", handler=Things())
        return connection

    def outcome(self, connection):
        return InboundEvent.objects.get(connection=connection, type="card.updated").outcome

    def test_makes_what_was_ignored_due_with_the_reason(self, browse, house, handled):
        text = browse("mara").get(url_of(handled, "release")).content.decode()
        assert "card.updated: 1" in text

        answer = perform(browse("mara"), handled, "release", type="card.updated")

        assert answer.status_code == 302
        assert self.outcome(handled) == "received"
        row = AuditEvent.objects.get(act="webhooks.release_ignored")
        assert (row.principal, row.reason) == (f"staff:{house.people['mara'].pk}", REASON)

    def test_asks_for_a_reason_and_a_type(self, browse, handled):
        for lacking in ({"reason": "", "type": "card.updated"}, {"type": "card.renamed"}):
            assert perform(browse("mara"), handled, "release", **lacking).status_code == 400

        assert self.outcome(handled) == "ignored"

    @pytest.mark.parametrize("login", ["sofia", "liam", "iris", "ada"])
    def test_is_not_for_everybody(self, browse, handled, login):
        answer = perform(browse(login), handled, "release", type="card.updated")

        assert answer.status_code == 403
        assert self.outcome(handled) == "ignored"

    def test_is_off_while_nobody_handles_it(self, browse, connection, monkeypatch):
        monkeypatch.setattr(registry, "_handlers", {})

        text = browse("mara").get(url_of(connection, "release")).content.decode()

        assert "Nothing was ignored that is handled by now." in text
