"""Providers' events, and SIGKILL between any two steps from their hook to their effect."""

from __future__ import annotations

import contextlib
import http.client
from functools import partial

import pytest

from apps.core.work import OPEN
from apps.webhooks.models import InboundEvent
from tests.chaos.house import PATIENCE_SECONDS, wait_sweeping
from tests.chaos.oracles import assert_sound, end_leases, is_settled
from tests.support import wait_until
from tests.webhooks import things
from tests.webhooks.inbox import connect, headers_of, kept, message, path_of
from tests.webhooks.things import appear, are_final, standing, tell_each

# Of processes that know the tests' own app above the inbox.
ABOVE = {"DJANGO_SETTINGS_MODULE": "tests.chaos.things_settings"}
THINGS = 12


@pytest.fixture
def connection(organization):
    things.create_table()
    yield connect(organization)
    things.drop_table()


def is_worked(organization):
    is_open = InboundEvent.objects.filter(state__in=OPEN).exists()
    return not is_open and is_settled(organization)


def ranks(organization):
    return {standing(organization, f"thing_{number}")[0] for number in range(THINGS)}


class TestWorker:
    @pytest.mark.parametrize(
        "step",
        [
            pytest.param("work.claimed=kill", marks=pytest.mark.soak),
            # Effects and outcomes are written, and so are our own events about them.
            "inbox.decided=kill",
        ],
    )
    def test_killed_leaves_no_effect_and_another_has_each_once(
        self, house, organization, connection, step
    ):
        for number in range(THINGS):
            tell_each(organization, connection, number)
        dying = house.worker("events", KASSA_FAILPOINTS=step, **ABOVE)
        dying.wait_for(f"failpoint {step.partition('=')[0]}: kill")
        dying.kill()
        assert ranks(organization) == {0}
        assert {event.outcome for event in kept()} == {"received"}

        end_leases()
        house.worker("events", **ABOVE)
        wait_sweeping(partial(is_worked, organization))

        assert are_final(THINGS, organization)
        assert {event.outcome for event in kept()} <= {"applied", "superseded"}
        assert len(kept()) == 4 * THINGS
        assert_sound(organization)


@pytest.mark.soak
class TestHook:
    def test_killed_before_it_answers_has_kept_the_event_once_however_often_it_comes(
        self, house, organization, connection
    ):
        appear(organization, "thing_1")
        body = message("thing.paid", "thing_1")
        dying = house.web(KASSA_FAILPOINTS="work.committed=kill", **ABOVE)

        with pytest.raises((http.client.HTTPException, ConnectionError)):
            tell(dying, connection, body)
        wait_until(lambda: "failpoint work.committed: kill" in dying.running.text)
        dying.running.kill()
        [event] = kept()
        web = house.web(**ABOVE)
        assert [tell(web, connection, body) for _ in range(3)] == [200] * 3

        house.worker("events", **ABOVE)
        wait_sweeping(partial(is_worked, organization))
        assert [(each.id, each.outcome) for each in kept()] == [(event.id, "applied")]
        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert_sound(organization)


def tell(web, connection, body):
    """Post one signed message to the web process; return the status of its answer."""
    talk = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(talk):
        headers = {"Content-Type": "application/json", **headers_of(body, message_id="msg_1")}
        talk.request("POST", path_of(connection), body, headers)
        return talk.getresponse().status
