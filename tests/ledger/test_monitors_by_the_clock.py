"""A monitor watches what is available by the clock: whether a sweeper ran makes no difference."""

from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.ledger import operations
from apps.ledger.errors import HoldExpired
from apps.ledger.models import BalanceMonitor, Hold
from apps.ledger.operations import CaptureRequest, HoldRequest, _engine
from apps.ledger.rules import PlaceHold
from tests.ledger.exchanges import exchange
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.ledger.test_expired_holds import HOUR, dry, hold_over, previewed
from tests.ledger.test_monitors import told, watch
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    """Ann has 120, of which 30 came from Bob."""
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR", floor=None)
    bob = open_account(organization, "wallets:bob:EUR", floor=None)
    fund(organization, ann, 90)
    return organization, ann, bob, post_transfer(organization, bob, ann, 30, key="in").entry_id


@pytest.fixture
def watched(books):
    """Told at 70: 50 of Ann's 120 are reserved by a hold that is over, and not swept."""
    organization, ann, bob, _ = books
    monitor = watch(organization, ann)
    hold = hold_over(organization, ann, bob, 50)
    assert told(monitor) == [70]
    return monitor, hold


def stands(monitor, *, beyond: bool) -> None:
    assert BalanceMonitor.objects.get(id=monitor).is_beyond == beyond
    assert breaches() == []


def take_30(act, organization, ann, bob, entry):
    keyed = {"organization_id": organization, "idempotency_key": "act", "actor": ACTOR, "now": NOW}
    match act:
        case "transfer":
            post_transfer(organization, ann, bob, 30, key="act")
        case "transfers":
            post(organization, move(ann, bob, 10), move(ann, bob, 20))
        case "hold":
            hold = HoldRequest(
                debit_account_id=ann, credit_account_id=bob, amount_minor=30, currency="EUR"
            )
            operations.place_hold(**keyed, hold=hold)
        case "exchange":
            exchange(organization, ann, open_account(organization, "wallets:ann:USD"), 30)
        case "undone":
            operations.reverse_entries(**keyed, entry_ids=[entry], at="now", reason="")


class TestAHoldThatIsOver:
    @pytest.mark.parametrize("act", ["transfer", "transfers", "hold", "exchange", "undone"])
    def test_has_brought_the_balance_back_before_an_act_takes_it_beyond(self, books, watched, act):
        monitor, hold = watched
        stands(monitor, beyond=True)

        take_30(act, *books)

        assert told(monitor) == [70, 90]
        assert Hold.objects.get(id=hold).status == "expired"
        stands(monitor, beyond=True)

    def test_has_brought_it_back_where_a_sweeper_ran_too(self, books, watched):
        monitor, _ = watched

        assert operations.expire_holds(organization_id=books[0], now=NOW) == 1
        stands(monitor, beyond=False)
        assert told(monitor) == [70]

        take_30("transfer", *books)
        assert told(monitor) == [70, 90]
        stands(monitor, beyond=True)

    def test_leaves_the_monitor_ready_where_an_act_stays_on_this_side(self, books, watched):
        organization, ann, bob, _ = books
        monitor, _ = watched

        post_transfer(organization, ann, bob, 10, key="k")

        assert told(monitor) == [70]
        stands(monitor, beyond=False)

    def test_is_told_of_upwards_before_an_act_takes_it_back(self, books):
        organization, ann, bob, _ = books
        monitor = watch(organization, ann, 110, direction="above")
        hold_over(organization, ann, bob, 50)
        stands(monitor, beyond=False)

        post_transfer(organization, ann, bob, 30, key="k")

        assert told(monitor) == [120]
        stands(monitor, beyond=False)

    def test_is_seen_where_money_leaves_by_credit(self, books):
        organization, _, bob, _ = books
        till = open_account(organization, "tills:one:EUR", type_="asset", floor=None)
        post(organization, move(till, bob, 120))
        monitor = watch(organization, till)
        hold_over(organization, bob, till, 50)

        post_transfer(organization, bob, till, 30, key="k")

        assert told(monitor) == [70, 90]
        stands(monitor, beyond=True)

    def test_is_one_of_more_than_one_portion(self, books, monkeypatch):
        monkeypatch.setattr(_engine, "_PORTION", 2)
        organization, ann, bob, _ = books
        monitor = watch(organization, ann)
        holds = [
            PlaceHold(
                id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=5,
                currency="EUR", expires_at=NOW,
            )
            for _ in range(7)
        ]  # fmt: skip
        # Together: each later one would find those before it over.
        post(organization, *holds)
        assert told(monitor) == [95]

        take_30("transfer", *books)

        assert told(monitor) == [95, 90]
        assert Hold.objects.filter(status="expired").count() == 7
        stands(monitor, beyond=True)

    @pytest.mark.parametrize("act", ["captured", "voided"])
    def test_is_refused_as_ever_where_it_is_to_end_otherwise(self, books, watched, act):
        organization, *_ = books
        monitor, hold = watched
        before = fingerprints("ledger_", locks=False)
        asked = {"organization_id": organization, "hold_id": hold, "now": NOW}
        end = (
            partial(operations.capture_hold, capture=CaptureRequest())
            if act == "captured"
            else operations.void_hold
        )

        with pytest.raises(HoldExpired):
            end(**asked, idempotency_key="end", actor=ACTOR)

        assert fingerprints("ledger_", locks=False) == before
        assert told(monitor) == [70]

    def test_stays_where_an_act_is_a_replay(self, books):
        organization, ann, bob, _ = books
        monitor = watch(organization, ann)
        first = post_transfer(organization, ann, bob, 10, key="k", reference="r")
        hold = hold_over(organization, ann, bob, 50)

        by_key = post_transfer(organization, ann, bob, 10, key="k", reference="r")
        by_reference = post_transfer(organization, ann, bob, 10, key="other", reference="r")

        assert first.entry_id == by_key.entry_id == by_reference.entry_id
        assert Hold.objects.get(id=hold).status == "open"
        assert told(monitor) == [60]

    def test_is_looked_for_only_where_money_is_reserved(self, books):
        organization, ann, bob, _ = books
        watch(organization, ann)

        with CaptureQueriesContext(connection) as asked:
            post(organization, move(ann, bob, 1))

        assert not any("ledger_hold" in query["sql"] for query in asked)


class TestADryRun:
    def test_of_a_transfer_answers_as_the_real_one(self, books, watched):
        organization, ann, bob, _ = books

        asked = dry(organization, ann, bob, 30)
        done = post_transfer(organization, ann, bob, 30, key="k").outcome

        assert asked.balances == done.balances
        assert done.balances[0].available == 90

    def test_of_a_set_undone_answers_as_the_real_one(self, books, watched):
        organization, _, _, entry = books
        asked = {"organization_id": organization, "entry_ids": [entry], "at": "now", "now": NOW}
        before = fingerprints()

        dry = operations.preview_reversal(**asked)
        assert fingerprints() == before
        real = operations.reverse_entries(**asked, idempotency_key="k", actor=ACTOR, reason="")

        assert dry.balances == real.balances


class TestCreateMonitor:
    def test_stands_where_the_balance_does_by_the_clock(self, books):
        organization, ann, bob, _ = books
        hold = hold_over(organization, ann, bob, 50)

        monitor = watch(organization, ann)

        assert Hold.objects.get(id=hold).status == "expired"
        stands(monitor, beyond=False)
        assert watch(organization, ann) == monitor
        post_transfer(organization, ann, bob, 30, key="k")
        assert told(monitor) == [90]

    def test_counts_a_hold_that_lasts(self, books):
        organization, ann, bob, _ = books
        hold_over(organization, ann, bob, 50, at=NOW + HOUR)

        monitor = watch(organization, ann)

        stands(monitor, beyond=True)
        assert told(monitor) == []


class BothOver:
    """Ann and Bob have 120 each, are told of at 70, and their holds are over and not swept."""

    def __init__(self, organization, ann, bob) -> None:
        fund(organization, bob, 150)
        self.organization, self.ann, self.bob = organization, ann, bob
        self.monitors = [watch(organization, id_, key=f"m{id_}") for id_ in (ann, bob)]
        payees = [open_account(organization, f"wallets:{n}:EUR", floor=None) for n in ("cy", "di")]
        self.payees = dict(zip((ann, bob), payees, strict=True))
        for id_ in (ann, bob):
            post(organization, self.hold(id_))
        assert [told(monitor) for monitor in self.monitors] == [[70], [70]]

    def hold(self, id_):
        return PlaceHold(
            id=new_id(), debit_account_id=id_, credit_account_id=self.payees[id_], amount_minor=50,
            currency="EUR", expires_at=NOW, reference=f"hold-{id_}",
        )  # fmt: skip

    def act(self, first, second):
        """
        Ask for the first one's hold again, and move 30 of the second one's.

        Until the first one's hold was released nothing is decided, and so nobody knows that the
        second one's is to be.
        """
        return self.hold(first), move(second, self.payees[second], 30)

    def expired(self) -> int:
        return Hold.objects.filter(organization_id=self.organization, status="expired").count()


@pytest.fixture
def both_over(books):
    organization, ann, bob, _ = books
    return BothOver(organization, ann, bob)


class TestAnActThatNeedsOneReleaseAndThenAnother:
    def test_has_both_and_tells_by_the_clock(self, both_over):
        ann, bob = both_over.monitors

        replayed, moved = post(both_over.organization, *both_over.act(both_over.ann, both_over.bob))

        assert (replayed.status, moved.status) == ("replayed", "posted")
        assert (told(ann), told(bob)) == ([70], [70, 90])
        assert both_over.expired() == 2
        with connection.cursor() as cursor:
            # Each in a transaction of its own.
            cursor.execute("SELECT COUNT(DISTINCT xmin::text) FROM ledger_hold")
            assert cursor.fetchone() == (2,)
        stands(ann, beyond=False)
        stands(bob, beyond=True)

    def test_is_previewed_as_it_is_done(self, both_over):
        commands = both_over.act(both_over.ann, both_over.bob)
        before = fingerprints()

        _, dry = previewed(both_over.organization, *commands)
        assert fingerprints() == before
        done = post(both_over.organization, *commands)

        assert [outcome.status for outcome in dry] == [outcome.status for outcome in done]
        assert [outcome.balances for outcome in dry] == [outcome.balances for outcome in done]


@pytest.mark.parametrize("turn", range(5))
class TestRace:
    def test_of_two_releases_and_the_sweeper_tells_the_same(self, both_over, turn):
        organization = both_over.organization
        ann, bob = both_over.monitors

        race(
            partial(operations.expire_holds, organization_id=organization, now=NOW),
            partial(post, organization, *both_over.act(both_over.ann, both_over.bob)),
        )

        assert (told(ann), told(bob)) == ([70], [70, 90])
        assert both_over.expired() == 2
        stands(ann, beyond=False)
        stands(bob, beyond=True)

    def test_of_two_releases_in_either_order_and_the_sweeper_tells_the_same(self, both_over, turn):
        organization = both_over.organization

        race(
            partial(post, organization, *both_over.act(both_over.ann, both_over.bob)),
            partial(post, organization, *both_over.act(both_over.bob, both_over.ann)),
            partial(operations.expire_holds, organization_id=organization, now=NOW),
        )

        for monitor in both_over.monitors:
            assert told(monitor) == [70, 90]
            stands(monitor, beyond=True)
        assert both_over.expired() == 2

    def test_of_posters_releases_once_and_tells_once(self, books, watched, turn):
        organization, ann, bob, _ = books
        monitor, _ = watched

        race(
            *(partial(post, organization, move(ann, bob, 15)) for _ in range(2)),
            *(
                partial(post_transfer, organization, ann, bob, 10, key=f"k{number}")
                for number in range(2)
            ),
        )

        seen = told(monitor)
        assert seen[0] == 70
        # 120 less 15 and 10, twice each, in whatever order: these are the first below 100.
        assert len(seen) == 2
        assert seen[1] in {95, 90, 85}
        assert balance(organization, ann).available == 70
        stands(monitor, beyond=True)

    def test_of_a_poster_and_the_sweeper_tells_the_same(self, books, watched, turn):
        organization, ann, bob, _ = books
        monitor, _ = watched

        race(
            partial(operations.expire_holds, organization_id=organization, now=NOW),
            partial(post, organization, move(ann, bob, 30)),
        )

        assert told(monitor) == [70, 90]
        stands(monitor, beyond=True)

    def test_of_creation_and_a_poster_loses_no_crossing(self, books, turn):
        organization, ann, bob, _ = books
        hold_over(organization, ann, bob, 50)

        monitor, _ = race(
            partial(watch, organization, ann), partial(post, organization, move(ann, bob, 30))
        )

        # Either 90 stood as it was set, or the posting took it there.
        assert told(monitor) in ([], [90])
        stands(monitor, beyond=True)
