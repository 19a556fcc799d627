"""Whoever asks for an act several times at once gets it once, and every time the same answer."""

import pytest
from django.http import HttpResponse

from apps.core.errors import Refusal
from apps.core.invariants import breaches
from tests.ledger import whole_acts
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

TIMES = 5


@pytest.mark.parametrize("name", whole_acts.OF_ALL)
def test_are_done_once(name):
    expected = whole_acts.undisturbed(name)
    act = whole_acts.begin(name)

    answers = race(*[act.call] * TIMES)

    assert [answer for answer in answers if isinstance(answer, Refusal)] == []
    if all(isinstance(answer, HttpResponse) for answer in answers):
        assert {answer.status_code for answer in answers} <= {200, 201, 202}
        assert len({answer.json()["id"] for answer in answers if "id" in answer.json()}) <= 1
        if name != "monitor called off":
            replayed = ["Idempotent-Replayed" in answer for answer in answers]
            assert sorted(replayed) == [False] + [True] * (TIMES - 1)
    assert act.standing() == expected
    assert breaches() == []
