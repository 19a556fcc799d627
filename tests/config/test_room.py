"""Where longer bodies lie until their requests are answered: bounded, and for each sender."""

import asyncio
import io
from types import SimpleNamespace

import pytest

from apps.core import context
from apps.core.api.problems import ApiProblem
from config import bodies
from config.bodies import Body, Room
from config.front import Front
from tests.config.test_front import TOKEN

KIB = 2**10


class Headers(dict):
    """Headers as the server has them, of one line each."""

    def get_all(self, key: str) -> list[str]:
        return [self[key]] if key in self else []


class Parts:
    """The parts of a body that comes in time, or the whole of a short one."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = iter(parts)

    def __call__(self):
        coming = asyncio.get_running_loop().create_future()
        coming.set_result(b"".join(self.parts))
        return coming

    def __aiter__(self):
        return self

    async def __anext__(self):
        part = next(self.parts, None)
        if part is None:
            raise StopAsyncIteration
        return part


def asked(*, length: int | None, sender="192.0.2.1", path="/v1/bank_files", forwarded=""):
    headers = Headers({"authorization": f"Bearer {TOKEN}"})
    if length is None:
        headers["transfer-encoding"] = "chunked"
    else:
        headers["content-length"] = str(length)
    if forwarded:
        headers["x-forwarded-for"] = forwarded
    return SimpleNamespace(headers=headers, path=path, client=f"{sender}:4711")


def take(room, *, parts=(), **more) -> Body:
    body = Body(asked(**more), Parts(*parts), room, is_for_lane=False)
    asyncio.run(body.wait())
    return body


def begin(room, **more) -> Body:
    """Begin with a body, in a loop, since the server is asked for a short one at once."""

    async def run():
        return Body(asked(**more), Parts(), room, is_for_lane=False)

    return asyncio.run(run())


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setattr(bodies, "_MEMORY_BYTES_MAX", 4 * 500 * KIB)
    monkeypatch.setattr(bodies, "_FILES_BYTES_MAX", 4 * 2_000 * KIB)
    return Room()


def code_of(call) -> str:
    with pytest.raises(ApiProblem) as refused:
        call()
    return refused.value.code


def test_one_sender_has_a_part_of_the_memory_and_others_theirs(room):
    first = begin(room, length=400 * KIB)

    assert code_of(lambda: begin(room, length=200 * KIB)) == "rate_limited"
    begin(room, length=400 * KIB, sender="192.0.2.2")
    begin(room, length=64 * KIB)

    first.give_back()
    begin(room, length=400 * KIB)


def test_a_body_is_given_back_once(room):
    body = begin(room, length=400 * KIB)
    body.give_back()
    body.give_back()

    begin(room, length=400 * KIB)
    assert code_of(lambda: begin(room, length=400 * KIB)) == "rate_limited"


def test_many_senders_together_have_no_more_than_there_is(room):
    for number in range(4):
        begin(room, length=500 * KIB, sender=f"192.0.2.{number}")

    assert code_of(lambda: begin(room, length=100 * KIB, sender="192.0.2.9")) == "unavailable"
    begin(room, length=64 * KIB, sender="192.0.2.9")


def test_a_file_takes_what_has_come_of_it_and_not_what_it_declares(room):
    body = take(room, length=1_500 * KIB, parts=[b"a" * 500 * KIB] * 3)
    assert room.files._taken == 1_500 * KIB
    with body.find() as file:
        assert len(file.read()) == 1_500 * KIB

    def more():
        take(room, length=None, parts=[b"a" * 400 * KIB] * 2)

    assert code_of(more) == "rate_limited"
    body.give_back()
    # What the refused one had taken goes with its request, as the front does in any case.
    assert room.files._taken == 400 * KIB


def test_at_hooks_all_senders_together_have_one_part_and_leave_others_theirs(room):
    begin(room, length=400 * KIB, path="/hooks/sandbox/pvc_1", sender="192.0.2.1")

    again = {"length": 400 * KIB, "path": "/hooks/sandbox/pvc_1", "sender": "192.0.2.2"}
    assert code_of(lambda: begin(room, **again)) == "rate_limited"
    begin(room, length=400 * KIB, sender="192.0.2.2")


def test_a_body_of_which_nothing_comes_leaves_no_name_behind(room):
    for number in range(10):
        body = take(room, length=None, parts=[b""], sender=f"192.0.2.{number}")
        body.give_back()
        body.find().close()

    assert not room.files._by


def test_what_django_answers_is_of_no_request_before_it():
    def application(_environ, start_response):
        said = context.current().request_id.encode()
        start_response("400 Bad Request", [("Content-Length", str(len(said)))])
        return [said]

    front = Front(application, _NoLane(), threads=1, lane_threads=1)
    context.begin(request_id="of-another-client")
    answer = front._ask_django({"wsgi.input": io.BytesIO()})
    front._pool.shutdown()
    front._gathering.close()

    assert answer.body
    assert answer.body != b"of-another-client"


def test_all_of_an_ipv6_network_are_one_sender(room):
    begin(room, length=400 * KIB, sender="[2001:db8:1:2::1]")

    again = {"length": 400 * KIB, "sender": "[2001:db8:1:2::ffff]"}
    assert code_of(lambda: begin(room, **again)) == "rate_limited"
    begin(room, length=400 * KIB, sender="[2001:db8:1:3::1]")


def test_behind_a_proxy_of_ours_senders_are_those_it_names(room, settings):
    settings.OWN_PROXIES = 1
    begin(room, length=400 * KIB, forwarded="203.0.113.1")

    again = {"length": 400 * KIB, "forwarded": "198.51.100.7, 203.0.113.1"}
    assert code_of(lambda: begin(room, **again)) == "rate_limited"
    begin(room, length=400 * KIB, forwarded="203.0.113.2")


def test_the_room_of_a_refused_request_is_given_back_by_the_front(room):
    async def run():
        front = Front(lambda *_: [], _NoLane(), threads=1, lane_threads=1)
        front._room = room
        scope = asked(length=None)
        scope.method, scope.query_string, scope.http_version = "POST", "", "1.0"
        with pytest.raises(ApiProblem):
            await front._serve(scope, Parts(*[b"a" * 900 * KIB] * 3))
        front._pool.shutdown()
        front._gathering.close()

    asyncio.run(run())

    assert room.files._taken == 0


class _NoLane:
    def takes(self, **_asked):
        return False
