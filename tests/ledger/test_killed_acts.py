"""A process is killed as an act commits: all of it stands or nothing, and asking again ends it."""

import pytest
from django.http import HttpResponse

from apps.core.invariants import breaches
from tests.ledger import whole_acts
from tests.ledger.dying import nursery_of_tests
from tests.ledger.rows import fingerprints
from tests.ledger.threads import is_others_open
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BOOKS = ("ledger_", "core_", "approvals_", "backoffice_")


@pytest.fixture(scope="module")
def nursery(django_db_setup):
    with nursery_of_tests() as nursery:
        yield nursery


@pytest.mark.parametrize("name", whole_acts.OF_ALL)
def test_is_done_once(nursery, name):
    """Killed with all of it written but COMMIT, then with nobody told: a third try says so."""
    expected = whole_acts.undisturbed(name)
    act = whole_acts.begin(name)
    before = fingerprints(*BOOKS, locks=False)

    nursery.kill_at_commit("before", act.call)

    wait_until(lambda: not is_others_open())
    assert fingerprints(*BOOKS, locks=False) == before
    nursery.kill_at_commit("after", act.call)
    assert fingerprints(*BOOKS, locks=False) != before
    assert breaches() == []
    answer = act.call()
    if isinstance(answer, HttpResponse):
        assert answer.status_code < 300, answer.content
        # Who calls a monitor off has no key, and finds it off.
        assert "Idempotent-Replayed" in answer or name == "monitor called off"
    assert act.standing() == expected
    assert breaches() == []
