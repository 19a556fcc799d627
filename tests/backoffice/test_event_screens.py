"""Events as staff read them: one thing's timeline, and what is found by the thing's id."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.core.ids import encode_id, new_id, new_ids
from apps.core.models import OutboxEvent
from apps.webhooks.models import WebhookDelivery
from tests.accounts import factories
from tests.backoffice.test_acts import url_of

LIST = "/admin/core/outboxevent/"


@pytest.fixture
def payout(house, db):
    """Return the printed id of a payout that went to the bank, with a few events."""
    return encode_id("po", house.payouts["sent"].pk)


def events_of(printed):
    return list(OutboxEvent.objects.filter(aggregate_id=printed).order_by("sequence"))


def page_of(browse, event, login="liam"):
    return browse(login).get(url_of(event)).content.decode()


def timeline(text):
    """Return the place and the type in each row of the page's timeline."""
    table = text.split("Timeline of this ", maxsplit=1)[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [
        (int(re.search(r'k-amount">(\d+)<', row)[1]), re.search(r'k-code">([\w.]+)<', row)[1])
        for row in rows
    ]


def event_ids(text):
    return set(re.findall(r'href="/admin/core/outboxevent/(evt_\w+)/"', text))


def add_events(house, printed, number):
    OutboxEvent.objects.bulk_create(
        OutboxEvent(
            id=id_,
            organization_id=house.id,
            batch_id=new_id(),
            ordinal=0,
            name="payouts.payout.settled",
            type="payout.settled",
            public=True,
            schema_version=1,
            aggregate_type="payout",
            aggregate_id=printed,
            sequence=place,
            occurred_at=clock.now(),
            actor="job:tests",
            data={},
        )
        for place, id_ in enumerate(new_ids(number), start=1)
    )


class TestTimeline:
    def test_has_all_that_happened_to_one_thing_the_latest_first(self, browse, payout):
        first, *others = events_of(payout)
        assert len(others) > 1

        text = page_of(browse, first)

        told = [(one.sequence, one.type) for one in reversed([first, *others])]
        assert timeline(text) == told
        assert event_ids(text) == {encode_id("evt", one.pk) for one in [first, *others]}
        assert "this one" in text

    def test_leads_to_what_the_event_names(self, browse, house, payout):
        [event, *_] = events_of(payout)

        text = page_of(browse, event)

        customer = encode_id("cus", house.payouts["sent"].customer_id)
        assert f'href="/admin/accounts/customer/{customer}/"' in text

    def test_of_much_shows_what_is_around_and_leads_to_the_rest(self, browse, house):
        printed = encode_id("po", new_id())
        add_events(house, printed, 100)
        middle = OutboxEvent.objects.get(aggregate_id=printed, sequence=50)

        text = page_of(browse, middle)

        assert [place for place, _ in timeline(text)] == list(range(70, 29, -1))
        assert f'href="{LIST}?q={printed}"' in text
        assert len(event_ids(browse("liam").get(f"{LIST}?q={printed}").content.decode())) == 50

    def test_is_read_by_its_index_and_so_is_what_is_found(self, browse, payout):
        [event, *_] = events_of(payout)
        with CaptureQueriesContext(connection) as asked:
            page_of(browse, event)
            browse("liam").get(f"{LIST}?q={payout}")
            browse("liam").get(f"/admin/webhooks/webhookdelivery/?q={payout}")

        reads = [one["sql"] for one in asked if '"aggregate_type" IN (' in one["sql"]]
        assert len(reads) == 3
        for read in reads:
            assert "event_of_aggregate" in plan_of(read)

    def test_is_none_of_a_journal_entry_whose_events_are_on_no_index(self, browse):
        event = OutboxEvent.objects.filter(aggregate_type="journal_entry").last()

        text = page_of(browse, event)

        assert "Timeline of this" not in text
        assert "/admin/ledger/journalentry/je_" in text

    def test_is_no_strangers(self, house, client, payout):
        elsewhere = factories.create_organization()
        person = factories.create_staff("support", organizations=[elsewhere], sees_all=False)
        client.force_login(person)

        listed = client.get(f"{LIST}?q={payout}").content.decode()

        assert event_ids(listed) == set()
        assert client.get(url_of(events_of(payout)[0])).status_code == 404


def plan_of(sql):
    """Return Postgres' plan of a read, a scan of a whole table only where it has no other way."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE core_outbox_event")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor.fetchall())


class TestFinding:
    def test_the_events_of_a_thing_by_its_id(self, browse, payout):
        text = browse("liam").get(f"{LIST}?q={payout}").content.decode()

        assert event_ids(text) == {encode_id("evt", one.pk) for one in events_of(payout)}

    def test_an_event_by_its_own_id(self, browse, payout):
        [event, *_] = events_of(payout)
        printed = encode_id("evt", event.pk)

        assert event_ids(browse("liam").get(f"{LIST}?q={printed}").content.decode()) == {printed}

    @pytest.mark.parametrize("sought", ["evt_", "evt_ü", "evt_" + "z" * 26, "whd_x", "po_", "x"])
    @pytest.mark.parametrize("path", ["core/outboxevent", "webhooks/webhookdelivery"])
    def test_nothing_where_the_text_is_no_id(self, browse, path, sought):
        answer = browse("liam").get(f"/admin/{path}/", {"q": sought})

        assert answer.status_code == 200
        assert "No row fits" in answer.content.decode()

    def test_deliveries_by_what_their_event_is_about(self, browse, payout):
        events = [one.pk for one in events_of(payout)]
        owed = WebhookDelivery.objects.filter(event_id__in=events)
        assert owed.exists()

        text = browse("liam").get(f"/admin/webhooks/webhookdelivery/?q={payout}").content.decode()

        found = set(re.findall(r"/admin/webhooks/webhookdelivery/(whd_\w+)/", text))
        assert found == {encode_id("whd", one.pk) for one in owed}

    def test_deliveries_by_their_event(self, browse, payout):
        [event, *_] = events_of(payout)
        url = f"/admin/webhooks/webhookdelivery/?q={encode_id('evt', event.pk)}"

        text = browse("liam").get(url).content.decode()

        found = set(re.findall(r"/admin/webhooks/webhookdelivery/(whd_\w+)/", text))
        owed = WebhookDelivery.objects.filter(event_id=event.pk)
        assert found == {encode_id("whd", one.pk) for one in owed}
