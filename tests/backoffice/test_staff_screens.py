"""Our own people on their screen: an admin ends their sessions, and shuts out who left."""

import pytest

from apps.core.models import AuditEvent
from tests.backoffice.test_acts import REASON, perform, url_of

HOME = "/admin/"


@pytest.fixture
def person(house, db):
    """One who is signed in, whom the acts are about."""
    # As the row is now: what the test before did to it was rolled back.
    rosa = house.people["rosa"]
    rosa.refresh_from_db()
    return rosa


def audited(person):
    """What people did to this one, and what it came to."""
    rows = AuditEvent.objects.filter(act="accounts.manage_staff", subject_id=str(person.pk))
    return [
        (row.reason, row.principal, row.after)
        for row in rows.filter(principal__startswith="staff:")
    ]


def by_bo(house):
    return f"staff:{house.people['bo'].pk}"


def is_in(client):
    return client.get(HOME).status_code == 200


class TestEndSessions:
    def test_ends_each_at_its_next_request_and_leaves_the_person(self, browse, house, person):
        laptop, phone = browse("rosa"), browse("rosa")
        other = browse("sofia")
        assert is_in(laptop)
        assert is_in(phone)

        answer = perform(browse("bo"), person, "end_sessions")

        assert answer.status_code == 302
        assert not is_in(laptop)
        assert not is_in(phone)
        assert is_in(other)
        person.refresh_from_db()
        assert person.is_active
        assert is_in(browse("rosa"))
        assert audited(person) == [(REASON, by_bo(house), {"sessions": "ended"})]


class TestDeactivate:
    def test_shuts_the_person_out_once(self, browse, house, person):
        theirs, bo = browse("rosa"), browse("bo")

        first = perform(bo, person, "deactivate")
        again = perform(bo, person, "deactivate")

        assert (first.status_code, again.status_code) == (302, 302)
        assert not is_in(theirs)
        person.refresh_from_db()
        assert not person.is_active
        assert audited(person) == [(REASON, by_bo(house), {"is_active": False})]
        assert "This person is deactivated." in bo.get(url_of(person)).content.decode()

    def test_is_not_for_oneself(self, browse, house, person):
        bo, own = browse("bo"), house.people["bo"]

        answer = perform(bo, own, "deactivate")

        assert answer.status_code == 403
        assert b"Nobody shuts themselves out." in answer.content
        own.refresh_from_db()
        assert own.is_active
        assert is_in(bo)
        assert audited(own) == []


@pytest.mark.parametrize("act", ["end_sessions", "deactivate"])
@pytest.mark.parametrize("login", ["liam", "noor", "cora", "ada"])
def test_either_is_for_an_admin_alone(browse, person, login, act):
    theirs, before = browse("rosa"), person.access_version

    answer = browse(login).post(url_of(person, act), {"reason": REASON})

    assert answer.status_code == 403
    assert b"accounts.manage_staff" in answer.content
    person.refresh_from_db()
    assert (person.is_active, person.access_version) == (True, before)
    assert is_in(theirs)
    assert audited(person) == []
