"""From the sandbox's provider to an effect: its process, our server, a real worker's task."""

from __future__ import annotations

import json

import pytest

from apps.core import invariants
from apps.webhooks import operations, tasks
from apps.webhooks.rules.inbound import Reading
from tests.config.test_server import answers
from tests.sandbox.conftest import Bank
from tests.support import free_port, running, wait_until
from tests.webhooks import things
from tests.webhooks.inbox import NEXT, SECRET, kept, path_of, refused, replace_secret
from tests.webhooks.things import appear, standing

pytestmark = pytest.mark.usefixtures("known_things")


@pytest.fixture(scope="module")
def server(django_db_setup):
    port = free_port()
    with running(
        "-m", "config.server", KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY="1"
    ):
        wait_until(lambda: answers(port), seconds=60)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def psp(connection, server, tmp_path):
    """The sandbox, which sends to the connection's hook on the wire."""
    process = Bank(tmp_path / "sandbox.sqlite3")
    url = f"{server}{path_of(connection)}"
    assert process.post("/psp/hooks", {"url": url, "secrets": [SECRET, NEXT]})[0] == 201
    yield process
    process.kill()


def make(psp, type_, id_, key="thing_1"):
    status, made = psp.post("/psp/events", {"type": type_, "id": id_, "data": {"id": key}})
    assert status == 202
    return [each["status"] for each in made["sent"]]


def test_a_misbehaving_provider_has_each_effect_once_and_in_rank(organization, connection, psp):
    """Cases 12 and 13: before our object is known, doubled in parallel, out of order, dropped."""
    psp.misbehave("duplicate_event", match={"type": "thing.funded"}, copies=10, at_once=True)
    psp.misbehave("reorder_event", match={"type": "thing.opened"})
    psp.misbehave("drop_event", match={"type": "thing.closed"})
    assert make(psp, "thing.opened", "pspe_1") == []
    assert make(psp, "thing.funded", "pspe_2") == [200] * 11
    assert make(psp, "thing.closed", "pspe_4") == []
    tasks.work_inbound()
    assert [event.outcome for event in kept()] == ["parked", "parked"]

    appear(organization, "thing_1")
    tasks.work_inbound()
    assert make(psp, "thing.paid", "pspe_3") == [200]
    tasks.work_inbound()
    # What was dropped is fetched, into the same inbox.
    for listed in psp.get("/psp/events?after=0")["events"]:
        event = listed["event"]
        operations.receive_event(
            connection=connection,
            reading=Reading(
                type=event["type"], object_key=event["data"]["id"], event_id=event["id"]
            ),
            body=json.dumps(event).encode(),
            now=kept()[0].received_at,
        )
    tasks.work_inbound()

    rank, effects = standing(organization, "thing_1")
    assert rank == things.FINAL
    assert effects[-3:] == ["pspe_2", "pspe_3", "pspe_4"]
    assert len(kept()) == 4
    assert {event.outcome for event in kept()} <= {"applied", "superseded"}
    assert refused() == {}
    assert invariants.breaches() == []


def test_a_provider_that_cannot_prove_it_is_refused_with_the_reason(organization, connection, psp):
    appear(organization, "thing_1")
    psp.misbehave("wrong_signature", match={"event_id": "pspe_1"})
    psp.misbehave("old_timestamp", match={"event_id": "pspe_2"}, seconds=303)
    psp.misbehave("old_timestamp", match={"event_id": "pspe_3"}, seconds=-600)

    statuses = [make(psp, "thing.paid", f"pspe_{number}") for number in (1, 2, 3)]
    tasks.work_inbound()

    assert statuses == [[401], [401], [401]]
    assert kept() == []
    assert standing(organization, "thing_1") == (0, [])
    assert refused() == {"signature_invalid": 1, "timestamp_out_of_range": 2}


def test_a_provider_may_sign_with_two_secrets_while_one_replaces_the_other(
    organization, connection, psp
):
    appear(organization, "thing_1")
    replace_secret(connection, NEXT, overlap_seconds=0)
    psp.misbehave("two_secrets", match={"event_id": "pspe_2"})

    statuses = [make(psp, "thing.paid", id_) for id_ in ("pspe_1", "pspe_2")]
    tasks.work_inbound()

    assert statuses == [[401], [200]]
    assert standing(organization, "thing_1") == (3, ["pspe_2"])


def test_a_provider_that_sends_too_much_is_refused_before_it_is_read(connection, psp):
    status, made = psp.post(
        "/psp/events", {"type": "thing.paid", "data": {"id": "x" * (1024 * 1024)}}
    )

    assert (status, [each["status"] for each in made["sent"]]) in (
        (202, [413]),
        # The answer is there before the whole body was taken, and the sender may miss it.
        (202, [0]),
    )
    assert kept() == []
