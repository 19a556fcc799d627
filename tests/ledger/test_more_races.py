"""Acts that are in each other's way, at once: months moved, codes taken, limits reached."""

from functools import partial

import pytest

from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.invariants import breaches
from apps.ledger import errors, operations
from apps.ledger.models import BalanceMonitor, LedgerAccount, PeriodBalance
from apps.ledger.operations import AccountSpec
from apps.ledger.operations._monitors import MONITORS_MAX
from tests.ledger.factories import ACTOR, NOW, create_organization, open_account
from tests.ledger.histories import seal
from tests.ledger.test_monitors import watch
from tests.ledger.test_periods import IN_JUNE, JULY, JUNE, LATER, Books
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


def names(outcomes) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


class TestMonths:
    @pytest.mark.parametrize("turn", range(5))
    def test_of_which_one_opens_as_the_next_one_closes_stay_in_order(self, turn):
        """Either the later one froze first, or the earlier one is open and has to be closed."""
        books = Books()
        books.close()

        opened, frozen = race(books.reopen, partial(books.begin, JULY))

        [refused] = [one for one in (opened, frozen) if isinstance(one, Refusal)]
        assert isinstance(refused, errors.PeriodOutOfOrder)
        states = books.period(JUNE).state, books.period(JULY) and books.period(JULY).state
        if refused is opened:
            assert states[0] == "closed"
            assert states[1] in {"closing", "closed"}
        else:
            assert states in {("open", None), ("open", "open")}

    @pytest.mark.parametrize("turn", range(5))
    def test_that_two_pairs_of_people_open_are_opened_once(self, turn):
        books = Books()
        books.close()

        outcomes = race(books.reopen, books.reopen)

        assert sorted(names(outcomes)) == ["Period", "PeriodNotClosed"]
        assert books.events().count("ledger.period.reopened") == 1

    @pytest.mark.parametrize("turn", range(5))
    def test_called_off_as_they_are_finished_are_closed_or_open(self, turn):
        books = Books()
        books.post(1, IN_JUNE, key="unsealed")
        books.begin()
        seal(books.id)
        call_off = partial(
            operations.call_off_closing,
            organization_id=books.id, period_id=books.period().id, reason="Not yet",
            idempotency_key="k", actor=Actor.job("tests"), now=LATER,
        )  # fmt: skip

        called_off, finished = race(call_off, books.finish)

        if isinstance(called_off, errors.PeriodNotClosed):
            assert (finished, books.period().state) == ("closed", "closed")
            assert books.stored()[books.bob] == (0, 0, 1)
            return
        # Others on this server may have held it up, and then it was called off.
        assert finished in {"open", "closing"}
        assert books.period().state == "open"
        assert not PeriodBalance.objects.exists()
        assert books.post(1, IN_JUNE, key="taken").entry_id


class TestCodes:
    @pytest.mark.parametrize("turn", range(10))
    def test_that_many_want_are_one_account(self, turn):
        organization = create_organization()
        account = AccountSpec("shops:s:EUR", "liability", "EUR")
        calls = [
            partial(
                operations.open_client_account,
                organization_id=organization, account=account, idempotency_key=f"k{n}",
                actor=ACTOR, now=NOW,
            )
            for n in range(8)
        ]  # fmt: skip

        outcomes = race(*calls)

        [opened] = [one for one in outcomes if not isinstance(one, Refusal)]
        assert sorted(names(outcomes)) == ["LedgerCodeTaken"] * 7 + ["UUID"]
        assert [row.id for row in LedgerAccount.objects.all()] == [opened]
        assert breaches() == []


class TestMonitors:
    @pytest.mark.parametrize("turn", range(10))
    def test_are_no_more_than_an_account_can_have(self, turn):
        organization = create_organization()
        ann = open_account(organization, "wallets:ann:EUR")
        for n in range(MONITORS_MAX - 2):
            watch(organization, ann, n + 1, key=f"m{n}")

        outcomes = race(
            *(partial(watch, organization, ann, 100 + n, key=f"k{n}") for n in range(6))
        )

        assert names(outcomes).count("TooManyBalanceMonitors") == 4
        assert BalanceMonitor.objects.filter(is_active=True).count() == MONITORS_MAX
        assert breaches() == []
