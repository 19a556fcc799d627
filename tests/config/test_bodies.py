"""Bodies that come while all threads of the lane are at work: nobody waits for those, or must."""

import asyncio
import json

import pytest

from config import bodies
from config.front import Front
from tests.config.test_gathering import Asked, Lane, patient, run, settled, until

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["patient"]


class Coming(asyncio.Future):
    """A body that the server reads, and whether somebody waits for it."""

    is_awaited = False

    def __await__(self):
        self.is_awaited = True
        return super().__await__()


class Wire:
    """A client's connection, as the server has it: its body comes when it comes."""

    def __init__(self) -> None:
        self.coming = Coming()
        self.is_asked = False
        self.answered: list[tuple[int, bytes]] = []

    def __call__(self):
        self.is_asked = True
        return self.coming

    def response_bytes(self, status, _headers, body):
        self.answered.append((status, body))


def small_application(environ, start_response):
    taken = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(taken)))])
    return [taken]


@pytest.fixture
def lane():
    return Lane()


def during(lane, scenario):
    """Run a scenario while both threads of the lane are at work, until it lets them go."""

    async def whole(_gathered):
        front = Front(small_application, lane, threads=1, lane_threads=2)
        front.__rsgi_init__(asyncio.get_running_loop())
        lane.may_go_on.clear()

        def begin(name, *, length=4):
            asked, wire = Asked(name, name), Wire()
            asked.headers |= {"content-length": str(length), "host": "localhost"}
            return wire, asyncio.create_task(front.__rsgi__(asked, wire))

        busy = []
        try:
            for name in ("one", "two"):
                wire, task = begin(name)
                wire.coming.set_result(b"body")
                busy.append(task)
                await until(lambda name=name: [name] in lane.batches)
            await scenario(begin)
        finally:
            lane.may_go_on.set()
        await asyncio.gather(*busy)
        front.__rsgi_del__(asyncio.get_running_loop())

    run(lane, whole)


@pytest.fixture(autouse=True)
def _stays(monkeypatch, patient):
    monkeypatch.setattr("config.front.atexit.register", lambda _leave: None)


def test_is_asked_for_at_once(lane):
    async def scenario(begin):
        wire, task = begin("three")
        # The loop had no round of its own since.
        assert wire.is_asked
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task

    during(lane, scenario)


def test_that_has_come_by_its_turn_is_taken_where_it_is(lane):
    async def scenario(begin):
        wire, task = begin("three")
        await settled()
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task
        assert wire.answered == [(201, b"three")]
        assert not wire.coming.is_awaited

    during(lane, scenario)

    assert lane.admitted == [["one"], ["two"], ["three"]]


def test_that_comes_later_is_waited_for_and_harms_nobody(lane):
    async def scenario(begin):
        late, task = begin("late")
        prompt, other = begin("prompt")
        prompt.coming.set_result(b"body")
        await settled()
        lane.may_go_on.set()
        await other
        assert (prompt.answered, late.answered) == ([(201, b"prompt")], [])
        late.coming.set_result(b"body")
        await task
        assert late.answered == [(201, b"late")]
        assert (prompt.coming.is_awaited, late.coming.is_awaited) == (False, True)

    during(lane, scenario)

    assert lane.admitted == [["one"], ["two"], ["prompt"], ["late"]]


def test_that_never_comes_is_408(lane, monkeypatch):
    monkeypatch.setattr(bodies, "_SMALL_SECONDS_MAX", 0.01)

    async def scenario(begin):
        wire, task = begin("three")
        lane.may_go_on.set()
        await task
        [(status, body)] = wire.answered
        assert (status, b"request_timeout" in body) == (408, True)

    during(lane, scenario)


@pytest.mark.parametrize("end", [b"bod", RuntimeError("The connection is closed.")])
def test_that_breaks_off_is_never_begun_and_400_to_whoever_still_reads(lane, end):
    async def scenario(begin):
        wire, task = begin("three")
        if isinstance(end, bytes):
            wire.coming.set_result(end)
        else:
            wire.coming.set_exception(end)
        lane.may_go_on.set()
        await task
        [(status, body)] = wire.answered
        assert (status, json.loads(body)["code"]) == (400, "invalid_request")

    during(lane, scenario)

    assert ["three"] not in lane.admitted


def test_of_what_is_djangos_is_whole_there(lane):
    async def scenario(begin):
        wire, task = begin("other")
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task
        assert wire.answered == [(200, b"body")]

    during(lane, scenario)
