from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id, new_id
from apps.risk import operations, queries
from apps.risk.errors import LimitExceeded, LimitRaiseNeedsTwo, LimitRefused
from apps.risk.invariants import INVARIANTS
from apps.risk.models import Decision, Fact, Limit
from apps.risk.operations import Admission, LimitChange
from apps.risk.rules import FactState
from tests.payouts import people
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 24, 11, tzinfo=UTC)
KEY = Actor(kind="api_key", id="k1", principal="staff:issuer")


@pytest.fixture
def owner():
    return people.organization()


@pytest.fixture
def customer(owner):
    return people.customer(owner)


@pytest.fixture(autouse=True)
def _invariants():
    yield
    with connection.cursor() as cursor:
        for name, sql in INVARIANTS.items():
            cursor.execute(sql)
            assert not cursor.fetchall(), name


def set_limit(owner, *, now=NOON - timedelta(days=7), key=None, **terms):
    change = LimitChange(**{"scope": "each_customer", "act": "payout", "currency": "EUR", **terms})
    return operations.set_limit(
        organization_id=owner.id,
        change=change,
        reason="a test",
        idempotency_key=key or new_id().hex,
        actor=KEY,
        now=now,
    )


def admit(customer, amount, *, now=NOON, currency="EUR", subject_id=None):
    admission = Admission(
        kind="payout",
        subject_type="payout",
        subject_id=subject_id or new_id(),
        customer_id=customer.id,
        amount_minor=amount,
        currency=currency,
    )
    return people.in_transaction(
        partial(
            operations.admit,
            organization_id=customer.organization_id,
            admission=admission,
            actor=KEY,
            now=now,
        )
    )


def used(customer, now=NOON):
    [limit] = queries.list_limits(
        organization_id=customer.organization_id,
        act="payout",
        currency="EUR",
        customer_id=customer.id,
    )
    one = queries.check_limit(limit=limit, customer_id=customer.id, requested_minor=0, instant=now)
    return one.used.amount_minor


def record(customer, subject_id, state, returned=0):
    people.in_transaction(
        partial(
            operations.record_fact_states,
            organization_id=customer.organization_id,
            subject_type="payout",
            returned={subject_id: returned},
            state=state,
        )
    )


class TestAdmit:
    def test_counts_an_act_and_explains_why_it_passed(self, owner, customer):
        limit = set_limit(owner, max_amount_minor=500_00)

        decision_id = admit(customer, 500_00)

        decision = Decision.objects.get(organization_id=owner.id, id=decision_id)
        assert decision.outcome == "approve"
        assert decision.limits == [
            {
                "id": encode_id("lim", limit.id),
                "currency": "EUR",
                "window": "calendar_day",
                "zone": "Europe/Berlin",
                "window_start": "2026-11-23T23:00:00+00:00",
                "window_end": "2026-11-24T23:00:00+00:00",
                "max": 500_00,
                "used": 0,
                "requested": 500_00,
                "remaining": 500_00,
                "max_count": None,
                "used_count": 0,
                "resets_at": "2026-11-24T23:00:00+00:00",
            }
        ]
        assert used(customer) == 500_00

    def test_refuses_one_unit_more_and_stores_why(self, owner, customer):
        limit = set_limit(owner, max_amount_minor=500_00)
        admit(customer, 450_00)

        with pytest.raises(LimitExceeded) as refused:
            admit(customer, 50_01)

        details = refused.value.details["limit"]
        assert details["id"] == encode_id("lim", limit.id)
        assert (details["used"], details["requested"], details["remaining"]) == (
            450_00,
            50_01,
            50_00,
        )
        stored = Decision.objects.get(outcome="decline")
        assert encode_id("dec", stored.id) == refused.value.details["decision"]
        assert stored.limits == [details]
        assert Fact.objects.get(state="refused").amount_minor == 50_01
        assert used(customer) == 450_00

    def test_lets_pass_what_has_no_limit(self, customer):
        admit(customer, 10**12)

        assert Fact.objects.get().state == "open"

    def test_counts_the_day_of_the_stored_zone(self, owner, customer):
        set_limit(owner, max_amount_minor=500_00)
        admit(customer, 500_00, now=datetime(2026, 11, 24, 22, 59, 59, tzinfo=UTC))

        admit(customer, 500_00, now=datetime(2026, 11, 24, 23, 0, tzinfo=UTC))

        with pytest.raises(LimitExceeded):
            admit(customer, 1, now=datetime(2026, 11, 25, 22, 59, 59, tzinfo=UTC))

    def test_keeps_customers_and_currencies_apart(self, owner, customer):
        set_limit(owner, max_amount_minor=500_00)
        admit(customer, 500_00)

        admit(people.customer(owner), 500_00)
        admit(customer, 500_00, currency="SEK")

        assert Fact.objects.filter(state="open").count() == 3

    def test_the_limit_with_the_least_left_binds(self, owner, customer):
        set_limit(owner, max_amount_minor=500_00)
        tight = set_limit(owner, scope="customer", customer_id=customer.id, max_amount_minor=100_00)

        with pytest.raises(LimitExceeded) as refused:
            admit(customer, 600_00)

        assert refused.value.details["limit"]["id"] == encode_id("lim", tight.id)

    def test_an_organization_limit_counts_all_customers(self, owner, customer):
        set_limit(owner, scope="organization", max_count=2)
        admit(customer, 1)
        admit(people.customer(owner), 1)

        with pytest.raises(LimitExceeded):
            admit(people.customer(owner), 1)

    def test_only_runs_as_part_of_an_operation(self, customer):
        with pytest.raises(InvariantBroken):
            operations.admit(
                organization_id=customer.organization_id, admission=None, actor=KEY, now=NOON
            )

    def test_ten_in_parallel_pass_exactly_as_often_as_the_limit_allows(self, owner, customer):
        set_limit(owner, max_amount_minor=500_00)

        outcomes = race(*(partial(admit, customer, 90_00) for _ in range(10)))

        refused = [one for one in outcomes if isinstance(one, LimitExceeded)]
        assert len(refused) == 5
        assert {one.details["limit"]["remaining"] for one in refused} == {50_00}
        assert used(customer) == 450_00
        assert Decision.objects.filter(outcome="decline").count() == 5


class TestRecordFactState:
    def test_a_canceled_act_gives_its_room_back(self, owner, customer):
        set_limit(owner, max_amount_minor=500_00)
        subject = new_id()
        admit(customer, 500_00, subject_id=subject)

        record(customer, subject, FactState.CANCELED)

        assert used(customer) == 0

    @pytest.mark.parametrize(("net", "left"), [(True, 0), (False, 600_00)])
    def test_a_return_gives_room_back_on_the_day_of_the_act(self, owner, customer, net, left):
        set_limit(owner, max_amount_minor=1000_00, net_of_returns=net)
        subject = new_id()
        admit(customer, 600_00, subject_id=subject)
        record(customer, subject, FactState.DONE)

        for _ in range(2):
            record(customer, subject, FactState.RETURNED, 600_00)

        assert used(customer) == left
        assert used(customer, now=NOON + timedelta(days=1)) == 0

    def test_a_fact_never_goes_back(self, customer):
        subject = new_id()
        admit(customer, 600_00, subject_id=subject)
        record(customer, subject, FactState.RETURNED, 600_00)

        record(customer, subject, FactState.DONE)

        assert Fact.objects.get().state == "returned"
        with pytest.raises(IntegrityError):
            Fact.objects.update(state="open")


class TestSetLimit:
    def test_lowers_at_once(self, owner, customer):
        first = set_limit(owner, max_amount_minor=500_00)

        second = set_limit(owner, max_amount_minor=100_00, now=NOON)

        first.refresh_from_db()
        assert (first.ended_at, second.ended_at) == (NOON, None)
        with pytest.raises(LimitExceeded):
            admit(customer, 100_01)

    def test_a_replay_returns_the_same_limit(self, owner):
        first = set_limit(owner, max_amount_minor=500_00, key="k")

        assert set_limit(owner, max_amount_minor=500_00, key="k").id == first.id
        assert Limit.objects.count() == 1

    @pytest.mark.parametrize(
        "terms", [{"max_amount_minor": 500_01}, {"max_amount_minor": 1, "zone": "Asia/Tokyo"}]
    )
    def test_one_person_does_not_loosen(self, owner, terms):
        set_limit(owner, max_amount_minor=500_00)

        with pytest.raises(LimitRaiseNeedsTwo):
            set_limit(owner, **terms)

        assert Limit.objects.get().ended_at is None

    @pytest.mark.parametrize(
        "terms", [{}, {"max_amount_minor": -1}, {"max_count": 1, "zone": "Mars/Olympus"}]
    )
    def test_refuses_what_is_no_limit(self, owner, terms):
        with pytest.raises(LimitRefused):
            set_limit(owner, **terms)

    def test_two_at_once_leave_one_in_force(self, owner):
        outcomes = race(*(partial(set_limit, owner, max_amount_minor=500_00) for _ in range(4)))

        assert {type(one) for one in outcomes} == {Limit}
        assert Limit.objects.filter(ended_at__isnull=True).count() == 1


class TestGuards:
    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE risk_decision SET outcome = 'decline'",
            "DELETE FROM risk_decision",
            "TRUNCATE risk_decision CASCADE",
            "UPDATE risk_fact SET amount_minor = 1",
            "DELETE FROM risk_fact",
            "UPDATE risk_limit SET max_amount_minor = 10000000",
            "DELETE FROM risk_limit",
        ],
    )
    def test_what_was_decided_is_not_rewritten_in_sql(self, owner, customer, sql):
        set_limit(owner, max_amount_minor=500_00)
        admit(customer, 100)

        with connection.cursor() as cursor, pytest.raises(IntegrityError):
            cursor.execute(sql)

    def test_a_fact_of_another_organizations_customer_is_refused(self, customer):
        admit(customer, 100)
        stranger = people.customer(people.organization("Other"))

        with pytest.raises(IntegrityError):
            Fact.objects.create(
                organization_id=customer.organization_id,
                subject_type="payout",
                subject_id=new_id(),
                kind="payout",
                state="open",
                amount_minor=1,
                currency="EUR",
                customer_id=stranger.id,
                actor="x",
                occurred_at=NOON,
            )
