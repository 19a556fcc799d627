"""An account that somebody sits on: a wait in vain finds it, and it is known for a while."""

from functools import partial

import pytest

from apps.core import transactions
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.ledger.operations import _grouping, _suspects
from tests.ledger.factories import balance, create_organization, fund, open_account, post_transfer
from tests.ledger.threads import Asking, gather, held, is_waiting, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob, cy = (open_account(organization, f"wallets:{name}:EUR") for name in "abc")
    fund(organization, ann, 1000)
    return organization, ann, bob, cy


@pytest.fixture
def no_suspects():
    """What tests before suspected is forgotten."""
    _suspects._until.clear()
    yield
    _suspects._until.clear()


@pytest.mark.usefixtures("no_suspects")
class TestLockedAccount:
    @pytest.fixture
    def locked(self, books):
        organization, *_ = books
        account = open_account(organization, "wallets:locked:EUR")
        fund(organization, account, 10)
        return account

    def test_that_is_known_keeps_nobody_waiting_who_does_not_name_it(self, books, locked):
        organization, ann, bob, cy = books
        late = partial(post_transfer, organization, locked, bob, 1)
        other = partial(post_transfer, organization, ann, cy, 1)

        with held(locked):
            assert Asking(partial(late, key="found"), lock_timeout="100ms").ended().fault
            # All of them on connections that would wait for a minute.
            leader, *asked = gather(
                organization, ann, partial(other, key="first"),
                partial(late, key="late-1"), partial(other, key="other-1"),
                partial(late, key="late-2"), partial(other, key="other-2"),
                lock_timeout="60s",
            )  # fmt: skip

        assert [transactions.sqlstate(one.fault) for one in asked[::2]] == ["55P03"] * 2
        # The first one's wait was told to the second, which did not wait for itself.
        assert asked[0].fault is asked[2].fault
        assert [one.fault for one in (leader, *asked[1::2])] == [None] * 3
        # In one batch, of which nobody waited.
        assert asked[1].answer.recorded_at == asked[3].answer.recorded_at
        assert not IdempotencyKey.objects.filter(key__startswith="late").exists()
        assert balance(organization, cy).available == 3
        assert breaches() == []

    def test_that_is_free_again_is_posted_to_and_known_no_more(self, books, locked):
        organization, _, bob, _ = books
        late = partial(post_transfer, organization, locked, bob, 1)

        with held(locked):
            assert Asking(partial(late, key="late"), lock_timeout="100ms").ended().fault
            assert _suspects.find(organization) == {locked, bob}

        assert late(key="late").outcome.status == "posted"
        assert _suspects.find(organization) == set()
        assert breaches() == []

    def test_is_found_by_a_group_whose_members_are_brief_then(self, books, locked, monkeypatch):
        """The group waits as long as its connection does; who was in it, as `_BRIEFLY` says."""
        organization, ann, bob, cy = books
        late = partial(post_transfer, organization, locked, bob, 1)
        other = partial(post_transfer, organization, ann, cy, 1)
        # So that it shows: longer than the group.
        monkeypatch.setattr(
            _grouping, "_BRIEFLY", _grouping._BRIEFLY.replace("200ms", "60s"), raising=True
        )

        with held(locked) as let_go:
            with held(ann):
                asked = [Asking(partial(other, key="first"))]
                wait_until(is_waiting)
                for call in (partial(late, key="late"), partial(other, key="other")):
                    asked.append(Asking(call, lock_timeout="300ms"))
                    waiting = len(asked) - 1
                    wait_until(lambda: len(_grouping._queues[organization]) == waiting)  # noqa: B023
            wait_until(lambda: is_waiting_since("500 ms"))
            let_go()
            answered = [one.ended() for one in asked]

        assert [one.fault for one in answered] == [None] * 3
        assert balance(organization, bob).available == 1
        assert breaches() == []

    def test_of_another_organization_is_suspected_by_nobody_else(self, books, locked):
        organization, _, bob, _ = books
        stranger = create_organization("Stranger")
        mine = open_account(stranger, "wallets:mine:EUR")
        fund(stranger, mine, 10)

        with held(mine):
            asked = Asking(
                partial(post_transfer, stranger, mine, bob, 1, key="k"), lock_timeout="100ms"
            ).ended()

        assert transactions.sqlstate(asked.fault) == "55P03"
        assert bob in _suspects.find(stranger)
        assert _suspects.find(organization) == set()

    def test_is_forgotten_after_a_while_and_leaves_nothing(self, books, locked, monkeypatch):
        organization, *_ = books
        other = create_organization("Other")
        monkeypatch.setattr(_suspects, "_SECONDS", 0.0)

        _suspects.note(organization, [locked])

        assert _suspects.find(organization) == set()
        _suspects.note(organization, [locked])
        _suspects.note(other, [locked])
        assert list(_suspects._until) == [other]


def is_waiting_since(interval: str) -> bool:
    """Whether anybody on this database has waited for one lock for so long."""
    [[found]] = sql(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp()"
        " - %s::interval AND pid IN (SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database()))",
        interval,
    )
    return bool(found)
