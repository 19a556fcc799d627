"""Which part is begun when: no organization, and none that is slow, has all threads."""

from uuid import UUID

import pytest

from config import pacing
from config.pacing import Pacing

A, B, C, D = (UUID(int=n) for n in range(4))


@pytest.fixture
def slow(monkeypatch):
    """Whatever is at work when somebody looks is slow, and stays it."""
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", -1)
    monkeypatch.setattr(pacing, "_SLOW_FOR_SECONDS", 600)


def make_slow(paced, *organizations):
    for organization in organizations:
        assert paced.begin(organization, "slow")
        paced.look()
        paced.end(organization, "slow")


def test_an_organization_has_two_at_work_and_a_third_when_one_ends():
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=1)

    assert [paced.begin(A, n) for n in range(4)] == [True, True, False, False]
    assert paced.begin(B, "b")
    assert paced.ready() == []
    paced.end(A, 1)
    assert paced.ready() == [2]
    assert paced.ready() == []
    paced.end(A, 0)
    paced.end(A, 2)
    assert paced.ready() == [3]


def test_slow_ones_have_one_at_work_each_and_so_many_together(slow):
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=2)
    make_slow(paced, A, B, C)

    # Not on the thread that asks, and in the order in which they came.
    begun = [paced.begin(A, "a0"), paced.begin(A, "a1"), paced.begin(B, "b"), paced.begin(C, "c")]
    assert begun == [False] * 4
    assert paced.ready() == ["a0", "b"]
    assert paced.ready() == []
    # Another one does not notice.
    assert paced.begin(D, "d")
    paced.end(A, "a0")
    assert paced.ready() == ["c"]
    paced.end(B, "b")
    assert paced.ready() == ["a1"]


def test_what_becomes_slow_while_it_is_at_work_counts(slow):
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=1)
    make_slow(paced, A)
    assert paced.begin(B, "b0")
    assert paced.begin(B, "b1")
    paced.look()

    assert not paced.begin(A, "a")
    assert paced.ready() == []
    paced.end(B, "b0")
    assert paced.ready() == []
    paced.end(B, "b1")
    assert paced.ready() == ["a"]


def test_who_is_not_slow_any_more_is_as_all_others(slow, monkeypatch):
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=1)
    monkeypatch.setattr(pacing, "_SLOW_FOR_SECONDS", -1)
    make_slow(paced, A)

    assert paced.begin(A, "a0")
    assert paced.begin(A, "a1")


def test_what_is_quick_is_not_slow(monkeypatch):
    monkeypatch.setattr(pacing, "_SLOW_SECONDS", 600)
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=1)
    make_slow(paced, A)

    assert paced.begin(A, "a")


def test_what_ends_quickly_beside_it_hides_nothing_that_is_slow(monkeypatch):
    now = 0.0
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    paced = Pacing(of_one_max=2, of_slow_one_max=1, slow_max=1)
    assert paced.begin(A, "waits")
    for number in range(3):
        now += 0.1
        assert paced.begin(A, number)
        paced.look()
        paced.end(A, number)

    assert not paced.begin(A, "another")
    assert paced.ready() == []
    paced.end(A, "waits")
    assert paced.ready() == ["another"]
