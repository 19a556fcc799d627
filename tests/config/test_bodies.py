"""Bodies that come while their requests wait for a thread at work: nobody has to wait for them."""

import asyncio
import json
import time

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


@pytest.fixture(params=[("one", "two"), ("one",)], ids=["all threads", "its key's"])
def at_work(request):
    """The keys whose requests threads are at: all threads, or the one that has the key."""
    return request.param


@pytest.fixture
def during(lane, at_work):
    """Run a scenario while threads of the lane are at work, until it lets them go."""

    def run_beside(scenario):
        async def whole(_gathered):
            front = Front(small_application, lane, threads=1, lane_threads=2)
            front.__rsgi_init__(asyncio.get_running_loop())
            lane.may_go_on.clear()

            def begin(name, *, length=4):
                # With a thread to spare only who asks under a key that is at work waits.
                key = name if len(at_work) > 1 else "one"
                asked, wire = Asked(key, name), Wire()
                asked.headers |= {"content-length": str(length), "host": "localhost"}
                return wire, asyncio.create_task(front.__rsgi__(asked, wire))

            busy = []
            try:
                for name in at_work:
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

    return run_beside


@pytest.fixture(autouse=True)
def _stays(monkeypatch, patient):
    monkeypatch.setattr("config.front.atexit.register", lambda _leave: None)


def test_is_asked_for_at_once(lane, during):
    async def scenario(begin):
        wire, task = begin("three")
        # The loop had no round of its own since.
        assert wire.is_asked
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task

    during(scenario)


def test_that_has_come_by_its_turn_is_taken_where_it_is(lane, during, at_work):
    async def scenario(begin):
        wire, task = begin("three")
        await settled()
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task
        assert wire.answered == [(201, b"three")]
        assert not wire.coming.is_awaited

    during(scenario)

    assert lane.admitted == [*([name] for name in at_work), ["three"]]


def test_that_comes_later_is_waited_for_and_harms_nobody(lane, during, at_work):
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

    during(scenario)

    assert lane.admitted == [*([name] for name in at_work), ["prompt"], ["late"]]


def test_that_never_comes_is_408(lane, during, monkeypatch):
    monkeypatch.setattr(bodies, "_SMALL_SECONDS_MAX", 0.01)

    async def scenario(begin):
        wire, task = begin("three")
        lane.may_go_on.set()
        await task
        [(status, body)] = wire.answered
        assert (status, b"request_timeout" in body) == (408, True)

    during(scenario)


def test_has_its_time_from_when_it_was_asked_for(lane, during, monkeypatch):
    """And not from its turn, which may be long after."""

    async def scenario(begin):
        wire, task = begin("three")
        await settled()
        long_after = time.monotonic() + bodies._SMALL_SECONDS_MAX
        monkeypatch.setattr(bodies.time, "monotonic", lambda: long_after)
        lane.may_go_on.set()
        await task
        assert [status for status, _body in wire.answered] == [408]

    during(scenario)


@pytest.mark.parametrize("end", [b"bod", RuntimeError("The connection is closed.")])
def test_that_breaks_off_is_never_begun_and_400_to_whoever_still_reads(lane, during, end):
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

    during(scenario)

    assert ["three"] not in lane.admitted


def test_of_what_is_djangos_is_whole_there(lane, during):
    async def scenario(begin):
        wire, task = begin("other")
        wire.coming.set_result(b"body")
        lane.may_go_on.set()
        await task
        assert wire.answered == [(200, b"body")]

    during(scenario)
