"""The feed page by page: few types, large batches, many weeks; each page looks only so far."""

from __future__ import annotations

import contextlib
import re
import threading
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, outbox, partitions
from apps.core.models import OutboxBatch, OutboxEvent
from apps.webhooks import queries
from apps.webhooks.errors import CursorExpired
from apps.webhooks.queries import BATCH_END, FeedPlace, _feed
from tests.accounts.factories import Api
from tests.core.weeks_of_tests import WEEK, at, ensure_weeks_from, monday, run
from tests.support import race
from tests.webhooks.factories import create_customer, owe, publish, relay

THING, CUSTOMER = "thing.changed", "customer.created"


@pytest.fixture
def narrow(monkeypatch):
    """A page looks at three batches more than it may show, and at five events at a time."""
    monkeypatch.setattr(_feed, "_BATCHES_MAX", 3)
    monkeypatch.setattr(_feed, "_EVENTS_MAX", 5)


def pages(organization, *types, limit=2, ascending=True, after=None):
    """Read to the end; return each page."""
    read = []
    while not read or read[-1].has_more:
        read.append(
            queries.read_feed(
                organization_id=organization.id,
                types=types,
                after=read[-1].end if read else after,
                ascending=ascending,
                limit=limit,
            )
        )
    return read


def ids(read):
    return [event.id for page in read for event in page.events]


def told(*types):
    """The events of these types in the order of the feed."""
    positions = dict(OutboxBatch.objects.values_list("id", "position"))
    events = OutboxEvent.objects.filter(type__in=types)
    order = sorted((positions[event.batch_id], event.ordinal, event.id) for event in events)
    return [id_ for *_, id_ in order]


@pytest.mark.usefixtures("narrow")
class TestPage:
    @pytest.fixture
    def mixed(self, organization):
        """Two customers among twenty batches of things, one of them near either end."""
        for number in range(20):
            owe(organization, f"thing_{number}")
            if number in {2, 15}:
                create_customer(organization)
                relay()

    @pytest.mark.parametrize("ascending", [True, False])
    def test_of_few_types_may_be_empty_and_has_more(self, organization, mixed, ascending):
        read = pages(organization, CUSTOMER, ascending=ascending)

        assert ids(read) == told(CUSTOMER)[:: 1 if ascending else -1]
        assert [len(page.events) for page in read].count(0) >= 2
        assert all(page.end != other.end for page, other in pairwise(read))

    @pytest.mark.parametrize("ascending", [True, False])
    @pytest.mark.parametrize("limit", [1, 2, 7, 30])
    def test_of_all_types_is_full_until_the_last(self, organization, mixed, ascending, limit):
        read = pages(organization, THING, CUSTOMER, limit=limit, ascending=ascending)

        assert ids(read) == told(THING, CUSTOMER)[:: 1 if ascending else -1]
        if limit == 2:
            assert {len(page.events) for page in read} == {2}

    @pytest.mark.parametrize("ascending", [True, False])
    @pytest.mark.parametrize("limit", [1, 4, 12, 13])
    def test_goes_on_within_a_batch_that_is_larger_than_what_it_looks_at(
        self, organization, ascending, limit
    ):
        for first in (0, 12):
            owe(organization, *(f"thing_{number}" for number in range(first, first + 12)))

        read = pages(organization, THING, limit=limit, ascending=ascending)

        assert ids(read) == told(THING)[:: 1 if ascending else -1]
        assert len(ids(read)) == 24

    def test_takes_a_follower_past_what_it_may_not_read(self, organization, mixed):
        end = pages(organization, CUSTOMER)[-1].end

        assert end == FeedPlace(position=OutboxBatch.objects.count(), ordinal=BATCH_END)
        assert pages(organization, CUSTOMER, after=end)[0].end == end
        create_customer(organization)
        relay()
        assert ids(pages(organization, CUSTOMER, after=end)) == told(CUSTOMER)[-1:]

    def test_that_may_show_nothing_is_the_last(self, organization, mixed):
        [page] = pages(organization)

        assert (page.events, page.end, page.has_more) == ([], None, False)

    def test_says_over_the_api_that_there_is_more(self, organization, mixed):
        api = Api(organization, "events:read", "customers:read")
        found, cursor, counts = [], "", []
        while True:
            page = api.get(f"/v1/events?order=asc&limit=2&type={CUSTOMER}{cursor}").json()
            counts.append(len(page["data"]))
            found += [each["type"] for each in page["data"]]
            cursor = f"&after={page['next']}"
            if not page["has_more"]:
                break

        assert found == [CUSTOMER, CUSTOMER]
        assert 0 in counts[:-1]

    def test_has_a_place_behind_the_last_position_there_can_be(self, organization, mixed):
        last = FeedPlace(position=2**63 - 1, ordinal=BATCH_END)

        [page] = pages(organization, THING, after=last)

        assert (page.events, page.end, page.has_more) == ([], last, False)


class Follower:
    """Who reads the feed on from where it stands, over and over."""

    def __init__(self, organization):
        self.organization = organization
        self.seen, self.place = [], None

    def look(self):
        page = queries.read_feed(
            organization_id=self.organization.id,
            types=[THING],
            after=self.place,
            ascending=True,
            limit=4,
        )
        self.seen += page.events
        self.place = page.end
        return page.has_more

    def sequences(self):
        """Return of each aggregate the sequences in the order they were met."""
        found = {}
        for event in self.seen:
            found.setdefault(event.aggregate_id, []).append(event.sequence)
        return found


def walk(organization):
    """Return what a follower meets from the beginning on, to the end or until it is told."""
    follower = Follower(organization)
    with contextlib.suppress(CursorExpired):
        while follower.look():
            pass
    return [event.id for event in follower.seen]


class TestFollower:
    def test_misses_and_repeats_nothing_while_others_publish_and_relay(self, organization):
        over = threading.Event()
        follower = Follower(organization)

        def publish_each(about):
            for sequence in range(1, 16):
                publish(organization, about, f"beside_{about}", sequence=sequence)

        def publish_all():
            race(*(partial(publish_each, f"thing_{number}") for number in range(3)))
            over.set()

        def until_over(call):
            while not over.is_set():
                call()

        number = partial(until_over, partial(outbox.relay, limit=3))
        race(publish_all, number, number, partial(until_over, follower.look))
        relay()
        while follower.look():
            pass

        assert [event.id for event in follower.seen] == told(THING)
        assert list(follower.sequences().values()) == [list(range(1, 16))] * 6


class TestWeeks:
    @pytest.fixture(autouse=True)
    def weeks(self, weeks_restored, transactional_db):
        ensure_weeks_from(monday(clock.now()) - 8 * WEEK)

    @pytest.mark.parametrize("ascending", [True, False])
    def test_are_read_across(self, organization, ascending):
        for number in range(8):
            edge = monday(clock.now()) - number * WEEK
            for instant in (edge - timedelta(milliseconds=1), edge):
                at(instant, lambda number=number: owe(organization, f"a_{number}", f"b_{number}"))

        read = pages(organization, THING, limit=3, ascending=ascending)

        assert ids(read) == told(THING)[:: 1 if ascending else -1]
        assert len(ids(read)) == 32

    def test_that_go_while_they_are_read_are_missed_by_nobody_who_is_not_told(
        self, organization, settings, monkeypatch
    ):
        settings.EVENT_RETENTION_DAYS = 30
        # Nobody here seals the books.
        kept = {n: each for n, each in partitions._holders.items() if n.startswith("core.")}
        monkeypatch.setattr(partitions, "_holders", kept)
        now = clock.now()
        for number in range(7, -1, -1):
            instant = monday(now) - number * WEEK
            at(instant, lambda number=number: owe(organization, *(f"{number}_{n}" for n in "abc")))
        order = told(THING)
        over, walks = threading.Event(), []

        def follow():
            while not over.is_set():
                walks.append(walk(organization))

        def drop():
            try:
                for weeks in (2, 1, 0):
                    partitions.drop_weeks("", now - weeks * WEEK)
            finally:
                over.set()

        race(follow, follow, drop)

        for met in filter(None, walks):
            start = order.index(met[0])
            assert met == order[start : start + len(met)]
        assert walk(organization) == told(THING)
        assert 0 < len(told(THING)) < len(order)

    @pytest.mark.parametrize("ascending", [True, False])
    def test_are_looked_into_only_where_their_batches_lie(self, organization, ascending):
        for number in range(8):
            instant = monday(clock.now()) - number * WEEK
            at(instant, lambda number=number: owe(organization, f"a_{number}"))
        lie_in = dict(
            run(
                "SELECT position, event.tableoid::regclass::text FROM core_outbox_event AS event"
                " JOIN core_outbox_batch AS batch ON batch.id = batch_id WHERE type = %s",
                THING,
            )
        )
        order = sorted(lie_in, reverse=not ascending)
        after = FeedPlace(position=order[3], ordinal=BATCH_END if ascending else 0)

        with CaptureQueriesContext(connection) as asked:
            queries.read_feed(
                organization_id=organization.id,
                types=[THING],
                after=after,
                ascending=ascending,
                limit=1,
            )

        [statement] = [each["sql"] for each in asked if "LATERAL" in each["sql"]]
        plan = "\n".join(line for (line,) in run(f"EXPLAIN {statement}"))
        # A page of one looks at two batches.
        parts = {lie_in[position] for position in order[4:6]}
        assert set(re.findall(r"core_outbox_event_\w+(?= one)", plan)) == parts
