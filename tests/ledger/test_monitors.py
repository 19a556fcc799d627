"""Balance monitors on the real engine: set, told, called off, and their races."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    BalanceMonitorNotFound,
    InsufficientFunds,
    LedgerAccountsNotFound,
    TooManyBalanceMonitors,
)
from apps.ledger.models import Balance, BalanceMonitor, Posting
from apps.ledger.operations import MonitorTerms
from apps.ledger.rules import MonitorDirection, MonitorMeasure, PlaceHold, VoidHold
from tests.ledger.clients import ApiClient, code_of, pointers, printed
from tests.ledger.factories import (
    ACTOR,
    NOW,
    committed,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR", floor=None)
    bob = open_account(organization, "wallets:bob:EUR", floor=None)
    fund(organization, ann, 120)
    return organization, ann, bob


def watch(organization, account, threshold=100, *, direction="below", measure="available", key="m"):
    return operations.create_monitor(
        organization_id=organization,
        terms=MonitorTerms(
            account_id=account,
            measure=MonitorMeasure(measure),
            direction=MonitorDirection(direction),
            threshold_minor=threshold,
        ),
        idempotency_key=key,
        actor=ACTOR,
        now=NOW,
    )


def call_off(organization, monitor):
    operations.deactivate_monitor(
        organization_id=organization, monitor_id=monitor, actor=ACTOR, now=NOW
    )


def told(monitor) -> list[int]:
    """Return the balances a monitor told of, and see that its sequence has no gap."""
    found = OutboxEvent.objects.filter(
        type="balance_monitor.triggered", aggregate_id=encode_id("bm", monitor)
    ).order_by("sequence")
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    row = BalanceMonitor.objects.get(id=monitor)
    assert row.triggered == row.event_sequence == len(found)
    return [event.data["balance"] for event in found]


class TestCreateMonitor:
    def test_watches_from_now_on(self, books):
        organization, ann, _ = books

        monitor = watch(organization, ann)

        row = queries.get_monitor(organization_id=organization, monitor_id=monitor)
        assert (row.is_active, row.is_beyond, row.triggered) == (True, False, 0)
        assert Balance.objects.get(id=ann).monitored
        assert AuditEvent.objects.get(act="ledger.create_monitor").after["threshold"] == 100

    def test_beyond_already_tells_nothing_until_it_was_back(self, books):
        organization, ann, bob = books
        monitor = watch(organization, ann, 200)
        assert BalanceMonitor.objects.get(id=monitor).is_beyond

        post(organization, move(ann, bob, 10))
        assert told(monitor) == []

        fund(organization, ann, 500)
        post(organization, move(ann, bob, 500))
        assert told(monitor) == [110]

    def test_replayed_answers_the_same_monitor(self, books):
        organization, ann, _ = books

        assert watch(organization, ann) == watch(organization, ann)
        assert BalanceMonitor.objects.count() == 1

    def test_of_another_organizations_account_is_refused(self, books):
        _, ann, _ = books

        with pytest.raises(LedgerAccountsNotFound):
            watch(create_organization("Other"), ann)

        assert BalanceMonitor.objects.count() == 0
        assert not Balance.objects.get(id=ann).monitored

    def test_of_an_account_that_has_many_is_refused(self, books):
        organization, ann, _ = books
        for number in range(20):
            watch(organization, ann, number, key=f"m-{number}")

        with pytest.raises(TooManyBalanceMonitors) as refused:
            watch(organization, ann, key="one more")

        assert refused.value.details["max"] == 20
        assert BalanceMonitor.objects.count() == 20


class TestCrossing:
    def test_is_told_once_each_time(self, books):
        organization, ann, bob = books
        monitor = watch(organization, ann)

        post(organization, move(ann, bob, 30))
        post(organization, move(ann, bob, 10))
        post(organization, move(bob, ann, 50 - 10 + 10))
        post(organization, move(ann, bob, 40))

        assert told(monitor) == [90, 90]
        event = OutboxEvent.objects.filter(type="balance_monitor.triggered").first()
        assert event.data == {
            "ledger_account": printed(ann), "measure": "available", "direction": "below",
            "threshold": 100, "balance": 90, "currency": "EUR",
        }  # fmt: skip
        assert breaches() == []

    def test_inside_one_batch_is_told_as_often_as_it_happened(self, books):
        organization, ann, bob = books
        monitor = watch(organization, ann)

        post(organization, move(ann, bob, 30), move(ann, bob, 10), move(bob, ann, 40 + 10),
             move(ann, bob, 40))  # fmt: skip

        assert told(monitor) == [90, 90]
        assert BalanceMonitor.objects.get(id=monitor).is_beyond

    def test_back_again_is_not_when_it_was_told(self, books):
        organization, ann, bob = books
        monitor = watch(organization, ann)
        post(organization, move(ann, bob, 30))

        committed(operations.post)(
            organization_id=organization, commands=[move(bob, ann, 30)], actor=ACTOR,
            now=NOW + timedelta(hours=1),
        )  # fmt: skip

        row = BalanceMonitor.objects.get(id=monitor)
        assert (row.is_beyond, row.triggered, row.triggered_at) == (False, 1, NOW)

    def test_by_a_hold_moves_available_and_not_posted(self, books):
        organization, ann, bob = books
        available = watch(organization, ann, key="a")
        posted = watch(organization, ann, measure="posted", key="p")

        post(organization, PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                                     amount_minor=30, currency="EUR"))  # fmt: skip

        assert told(available) == [90]
        assert told(posted) == []

    @pytest.mark.parametrize("end", ["voided", "expired"])
    def test_by_a_hold_that_ends_is_told_too(self, books, end):
        organization, ann, bob = books
        hold = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                         amount_minor=30, currency="EUR", expires_at=LATER)  # fmt: skip
        if end == "voided":
            hold = replace(hold, expires_at=None)
        post(organization, hold)
        above = watch(organization, ann, direction="above", key="a")
        below = watch(organization, ann, key="b")

        if end == "voided":
            post(organization, VoidHold(hold_id=hold.id))
        else:
            assert operations.expire_holds(organization_id=organization, now=LATER) == 1

        assert (told(above), told(below)) == ([120], [])
        # Back on its other side it is ready for the next time.
        post(organization, move(ann, bob, 30))
        assert (told(above), told(below)) == ([120], [90])

    def test_of_a_refused_batch_tells_nothing(self, books):
        organization, ann, bob = books
        poor = open_account(organization, "wallets:poor:EUR")
        monitor = watch(organization, ann)

        with pytest.raises(InsufficientFunds):
            post(organization, move(ann, bob, 30), move(poor, bob, 1))

        assert told(monitor) == []
        assert not BalanceMonitor.objects.get(id=monitor).is_beyond

    def test_of_a_replayed_transfer_is_told_once(self, books):
        organization, ann, bob = books
        monitor = watch(organization, ann)

        for _ in range(2):
            post_transfer(organization, ann, bob, 30, key="k")

        assert told(monitor) == [90]

    def test_is_told_upwards_too(self, books):
        organization, ann, _ = books
        monitor = watch(organization, ann, 150, direction="above")

        fund(organization, ann, 30)
        fund(organization, ann, 1)

        assert told(monitor) == [151]


class TestDeactivateMonitor:
    def test_tells_no_more_and_takes_the_mark_with_the_last_one(self, books):
        organization, ann, bob = books
        first, second = watch(organization, ann, key="1"), watch(organization, ann, key="2")

        call_off(organization, first)
        assert Balance.objects.get(id=ann).monitored
        call_off(organization, second)
        call_off(organization, second)
        post(organization, move(ann, bob, 30))

        assert told(first) == told(second) == []
        assert not Balance.objects.get(id=ann).monitored
        assert AuditEvent.objects.filter(act="ledger.deactivate_monitor").count() == 2

    def test_of_another_organization_is_not_there(self, books):
        organization, ann, _ = books
        monitor = watch(organization, ann)

        with pytest.raises(BalanceMonitorNotFound):
            call_off(create_organization("Other"), monitor)

        assert BalanceMonitor.objects.get(id=monitor).is_active


@pytest.mark.parametrize("turn", range(5))
class TestRace:
    def test_of_posters_tells_each_crossing_once(self, books, turn):
        organization, ann, bob = books
        monitor = watch(organization, ann)
        away = [partial(post, organization, move(ann, bob, 30)) for _ in range(10)]
        back = [partial(post, organization, move(bob, ann, 30)) for _ in range(10)]

        outcomes = race(*away, *back)

        assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
        rows = Posting.objects.filter(account_id=ann).order_by("account_version")
        stood = rows.values_list("balance_after_minor", flat=True)
        # The first of these was before the monitor.
        assert told(monitor) == [now for before, now in pairwise(stood) if before >= 100 > now]
        assert breaches() == []

    def test_of_creation_against_postings_loses_no_crossing(self, books, turn):
        organization, ann, bob = books
        calls = [partial(post, organization, move(ann, bob, 10)) for _ in range(8)]

        monitor, *_ = race(partial(watch, organization, ann, 50), *calls)

        row = BalanceMonitor.objects.get(id=monitor)
        # Either the balance (120 - 80) was beyond as it was set, or the posting that crossed told.
        assert row.is_beyond
        assert told(monitor) in ([], [40])
        assert bool(told(monitor)) == (row.triggered == 1)
        assert breaches() == []

    def test_of_the_last_two_to_go_leaves_no_mark(self, books, turn):
        organization, ann, _ = books
        monitors = [watch(organization, ann, key=str(number)) for number in range(2)]

        race(*(partial(call_off, organization, monitor) for monitor in monitors))

        assert not Balance.objects.get(id=ann).monitored


class TestApi:
    def body(self, api, **more):
        return {
            "ledger_account": printed(api.ann), "measure": "available", "direction": "below",
            "threshold": 100_00, **more,
        }  # fmt: skip

    def test_sets_reads_lists_and_calls_off(self):
        api = ApiClient()

        created = api.post("/v1/balance-monitors", self.body(api, description="Top up"))
        again = api.post("/v1/balance-monitors", self.body(api, description="Top up"))
        id_ = created.json()["id"]
        post(api.organization, move(api.ann, api.bob, 1))
        read = api.get(f"/v1/balance-monitors/{id_}")
        ended = api.delete(f"/v1/balance-monitors/{id_}")

        assert created.status_code == 201, created.content
        assert again.json() == created.json()
        assert again["Idempotent-Replayed"] == "true"
        assert created.json()["beyond"] is False
        assert (read.json()["triggered"], read.json()["beyond"]) == (1, True)
        assert read["ETag"]
        assert (ended.status_code, ended.json()["active"]) == (200, False)
        assert api.delete(f"/v1/balance-monitors/{id_}").json()["active"] is False
        listed = partial(api.get, "/v1/balance-monitors")
        assert [one["id"] for one in listed(ledger_account=printed(api.ann)).json()["data"]] == [
            id_
        ]
        assert listed(ledger_account=printed(api.bob)).json()["data"] == []
        assert listed(active="true").json()["data"] == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("threshold", "100"), ("threshold", 1.5), ("threshold", True),
            ("threshold", 10**18 + 1), ("measure", "pending"), ("direction", "over"),
            ("ledger_account", "la_x"), ("description", "a\u202eb"), ("colour", "red"),
        ],
    )  # fmt: skip
    def test_names_the_field_of_bad_input(self, field, value):
        api = ApiClient()

        response = api.post("/v1/balance-monitors", self.body(api, **{field: value}))

        assert response.status_code == 400
        assert pointers(response) == [f"/{field}"]
        assert BalanceMonitor.objects.count() == 0

    def test_answers_its_refusals(self):
        api = ApiClient()
        other = ApiClient()
        id_ = api.post("/v1/balance-monitors", self.body(api)).json()["id"]

        stolen = other.post("/v1/balance-monitors", self.body(api))

        assert code_of(stolen) == (422, "unknown_ledger_account")
        for answer in (other.get, other.delete):
            missing = answer(f"/v1/balance-monitors/{id_}")
            assert code_of(missing) == (404, "balance_monitor_not_found")
        assert other.get("/v1/balance-monitors").json()["data"] == []
        assert api.get("/v1/balance-monitors", active="yes").status_code == 400
        assert api.get("/v1/balance-monitors/bm_x").status_code == 400
        assert api.get(f"/v1/balance-monitors/{printed(api.ann)}").status_code == 404
        assert BalanceMonitor.objects.get().is_active

    def test_needs_its_scope_and_a_key(self):
        api = ApiClient("ledger:read")

        assert code_of(api.post("/v1/balance-monitors", {})) == (403, "insufficient_scope")
        assert ApiClient().post("/v1/balance-monitors", {}, key=None).status_code == 400
