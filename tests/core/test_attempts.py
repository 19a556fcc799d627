"""How often something may be tried: in Redis for all, and without Redis in each process."""

import pytest
import redis

from apps.core import attempts
from apps.core.attempts import Count, LocalCounts
from apps.core.ids import new_id
from tests.support import race

HOUR = attempts.HOUR_SECONDS


def fresh(most=3):
    return Count(f"test:{new_id()}", most)


@pytest.fixture
def server(settings):
    with redis.Redis.from_url(settings.CACHE_URL) as client:
        yield client


def test_one_more_than_may_be_is_told_how_long_to_wait():
    count = fresh()

    assert [attempts.take([count]) for _ in range(3)] == [0, 0, 0]
    assert HOUR - 60 < attempts.take([count]) <= HOUR


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_no_more_than_may_be():
    count = fresh(most=5)

    waits = race(*[lambda: attempts.take([count])] * 12)

    assert sum(wait == 0 for wait in waits) == 5


def test_what_one_count_refuses_is_in_no_other(server):
    narrow, wide = fresh(most=1), fresh(most=2)

    waits = [attempts.take([narrow, wide]) for _ in range(4)]

    assert [wait == 0 for wait in waits] == [True, False, False, False]
    assert attempts.take([wide]) == 0
    assert attempts.take([wide]) > 0


def test_when_the_hour_is_over_it_begins_anew(server):
    count = fresh(most=1)
    [key] = attempts._keys([count])
    attempts.take([count])
    assert attempts.take([count]) > 0
    assert 0 < server.pttl(key) <= HOUR * 1_000

    server.pexpireat(key, 1)

    assert attempts.take([count]) == 0


def test_a_try_that_was_not_looked_at_is_given_back():
    narrow, wide, never = fresh(most=1), fresh(most=3), fresh(most=1)
    attempts.take([narrow, wide])

    attempts.give_back([narrow, wide])
    attempts.give_back([never])

    assert attempts.take([narrow, wide]) == 0
    assert attempts.take([never]) == 0
    assert attempts.take([never]) > 0


class TestWithoutRedis:
    def test_a_try_that_was_not_looked_at_is_given_back(self, settings):
        settings.CACHE_URL, settings.WEB_PROCESSES = "redis://127.0.0.1:1/1", 1
        count = fresh(most=1)
        attempts.take([count])

        attempts.give_back([count])
        attempts.give_back([fresh()])

        assert attempts.take([count]) == 0
        assert attempts.take([count]) > 0

    def test_each_process_has_its_share(self, settings):
        settings.CACHE_URL, settings.WEB_PROCESSES = "redis://127.0.0.1:1/1", 2
        count = fresh(most=4)

        waits = [attempts.take([count]) for _ in range(3)]

        assert waits[:2] == [0, 0]
        assert 0 < waits[2] <= HOUR

    def test_an_hour_after_the_first_it_begins_anew(self, settings):
        settings.WEB_PROCESSES = 1
        now = [0.0]
        local, count, other = LocalCounts(clock=lambda: now[0]), fresh(most=2), fresh(most=1)
        waits = []
        for now[0] in (0.0, 600.0, 600.0, HOUR - 1.0, HOUR + 0.0, HOUR + 1.0, HOUR + 2.0):
            waits.append(local.take([count]))
            local.take([other])

        assert waits == [0, 0, HOUR - 600, 1, 0, 0, HOUR - 2]

    def test_what_one_count_refuses_is_in_no_other(self, settings):
        settings.WEB_PROCESSES = 1
        local, narrow, wide = LocalCounts(), fresh(most=1), fresh(most=2)

        for _ in range(3):
            local.take([narrow, wide])

        assert local.take([wide]) == 0
        assert local.take([wide]) > 0

    def test_what_is_kept_has_a_bound(self, settings, monkeypatch):
        settings.WEB_PROCESSES = 1
        monkeypatch.setattr(attempts, "_LOCAL_COUNTS_MAX", 10)
        local, address = LocalCounts(), fresh(most=1_000)

        for _ in range(50):
            assert local.take([fresh(), address]) == 0

        assert len(local._counts) <= 11
