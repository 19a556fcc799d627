"""The way to Postgres is cut at an act's COMMIT: who has a key is answered all the same, once."""

import pytest
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse

from apps.core.invariants import breaches
from tests.core.wire import wired
from tests.ledger import whole_acts

pytestmark = pytest.mark.django_db(transaction=True)

# They have no key: whether it was done is seen by doing it again.
KEYLESS = ("close finished", "entries sealed", "holds expired", "monitor called off")


@pytest.mark.parametrize("name", [name for name in whole_acts.OF_ALL if name not in KEYLESS])
def test_is_done_once(name):
    expected = whole_acts.undisturbed(name)
    act = whole_acts.begin(name)

    with wired() as wire:
        wire.cuts += ["before", "after"]
        answer = act.call()
        assert wire.cuts == []

    if isinstance(answer, HttpResponse):
        assert answer.status_code in {200, 201, 202}, answer.content
        # It was done by the second run, and found by the third.
        assert answer["Idempotent-Replayed"] == "true"
    assert act.standing() == expected
    assert breaches() == []


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", KEYLESS)
def test_without_a_key_is_unknown_and_done_once_by_asking_again(name, moment):
    expected = whole_acts.undisturbed(name)
    act = whole_acts.begin(name)

    with wired() as wire:
        wire.cuts.append(moment)
        try:
            answer = act.call()
        except (DatabaseError, InterfaceError):
            pass
        else:
            assert answer.status_code == 503
        assert wire.cuts == []
    act.call()

    assert act.standing() == expected
    assert breaches() == []
