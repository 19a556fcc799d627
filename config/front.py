"""
What the HTTP server calls: every request comes in here, on one event loop in each process.

The loop waits for bodies, so that a slow client holds no thread, and sends answers; it never waits
for Postgres or Redis. Requests of the express lane gather by their API key (`gathering`), and one
thread answers what has gathered; all others are Django's, a thread for each (docs/adr/0091, 0005).
"""

import asyncio
import atexit
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

import sentry_sdk
import structlog
from django.http import HttpRequest, HttpResponse

from apps.backoffice.views.browsers import find_browser
from apps.core.api import places, problems
from apps.core.api.headers import add_headers
from apps.core.api.problems import ApiProblem
from config.bodies import (
    CROWDED,
    IN_MEMORY_BYTES_MAX,
    Body,
    Gone,
    NotHere,
    Room,
    Source,
    find_sender,
)
from config.environ import Environ, Scope, make_environ, read_scope
from config.express import Answer, ExpressLane
from config.gathering import Gathering
from config.logging import log_request
from config.middleware import (
    API_CONTENT_POLICY,
    PAGES,
    begin_request,
    say,
)
from config.pacing import Pacing
from config.turns import Crowded

log = structlog.stdlib.get_logger("kassa.front")

type Application = Callable[[Environ, Any], Iterable[bytes]]

# Of an address, in characters: no route of ours takes a tenth of it, and it is read, kept and
# logged before anybody knows who asks (docs/adr/0142).
_ADDRESS_MAX: Final = 8 * 1024
# So much is held for requests that are not answered yet. The server's own bound is of connections;
# who hangs up makes room there for another one, while we still owe the work.
_HELD_MAX: Final = 1_024

# Of one API key so many requests are Django's at once, or so many where they take long, and so many
# of all keys whose requests do: with what the lane leaves to its own slow ones these are less than
# the connections of the process (8), so that the quick find one.
_OF_ONE_MAX: Final = 4
_OF_SLOW_ONE_MAX: Final = 2
_SLOW_MAX: Final = 3

_STRANGE_TYPE: Final = re.compile(r'\*|charset(?!\s*=\s*"?utf-?8"?\s*(?:;|$))', re.IGNORECASE)

# For so long a file may take to be opened by the server, once it was told of it.
_OPENING_SECONDS_MAX: Final = 60.0
# Hashing a password costs as much as a hundred requests of a key, and anybody may ask for it.
_SIGN_IN: Final = "/admin/login/"
# Fewer than may wait together: who asks without end from one address keeps no other one out. Nor
# do strangers, from however many, whoever has signed in from that browser before (docs/adr/0153).
_SIGN_INS_OF_ONE_MAX: Final = 4
# However few a key may have in each of many processes.
_SIGN_INS_WAITING_MAX: Final = 2 * _SIGN_INS_OF_ONE_MAX
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Wire(Source, Protocol):
    """One request's way to its client (RSGI): its body comes, its answer goes."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""
        ...

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None:
        """Answer with a file, at the speed at which the client takes it."""
        ...


class _LongAnswer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    file: Any


type _Turn = asyncio.Future[None]


class Front:
    """An RSGI application: the express lane, and Django behind it."""

    def __init__(
        self, django: Application, lane: ExpressLane, *, threads: int, lane_threads: int
    ) -> None:
        self._django = django
        self._lane = lane
        # Each sort has its own: keys whose transfers all wait keep nobody out of the back office.
        self._gathering = Gathering(lane, threads=lane_threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="django")
        self._pacing = Pacing[str, tuple[str, _Turn]](
            of_one_max=_OF_ONE_MAX, of_slow_one_max=_OF_SLOW_ONE_MAX, slow_max=_SLOW_MAX
        )
        # All three are the loop's alone.
        self._held = 0
        self._signing_in = Counter[str]()
        self._room = Room()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # A request goes its first steps at once, and not in the loop's next round: between two
        # rounds the loop lets go of the interpreter, and has to get it back from the lane.
        loop.set_task_factory(asyncio.eager_task_factory)

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        self._gathering.close()
        self._pool.shutdown(wait=True)
        atexit.register(_leave)

    async def __rsgi__(self, given: object, wire: Wire) -> None:
        scope = read_scope(given)
        try:
            answer = await self._serve(scope, wire)
        except Gone:
            # Who has ended only its own side still reads: without a word the server says 500.
            answer = _refuse(scope, ApiProblem("invalid_request", "The body broke off."))
        except ApiProblem as problem:
            answer = _refuse(scope, problem)
        # The boundary: views answer their own faults, so this one is of what is round them.
        except Exception:
            log.exception("request_failed")
            answer = _refuse(scope, _fault())
        if isinstance(answer, _LongAnswer):
            # The file has no name any more, so nothing of it stays if this process is killed.
            wire.response_file(answer.status, answer.headers, f"/dev/fd/{answer.file.fileno()}")
            asyncio.get_running_loop().call_later(_OPENING_SECONDS_MAX, answer.file.close)
        else:
            wire.response_bytes(*answer)

    async def _serve(self, scope: Scope, wire: Wire) -> Answer | _LongAnswer:
        if len(scope.path) + len(scope.query_string) > _ADDRESS_MAX:
            raise ApiProblem("address_too_long", f"It has more than {_ADDRESS_MAX} characters.")
        if scope.method != scope.method.upper():
            # A method of another name (RFC 9110, section 9.1) that Django takes for the one in
            # capitals, past all that is decided here and at the server by its name.
            raise ApiProblem("invalid_request", "Write the method in capitals.")
        if scope.http_version == "1.1" and scope.headers.get("host") is None:
            # RFC 9112, section 3.2. Two are refused where the first would be believed.
            raise ApiProblem("invalid_request", "Send a Host header.")
        for line in scope.headers.get_all("content-type"):
            if _STRANGE_TYPE.search(line):
                # Django falls over RFC 2231's way to write a parameter where it is malformed, and
                # reads an address and a form's parts in whatever codec is named, also one that is
                # of no text.
                raise ApiProblem("unsupported_media_type", "Send a plain Content-Type.")
        if len(scope.headers.get_all("idempotency-key")) > 1:
            # Two lines read as one key, and a retry that has only one of them as another: two acts.
            raise ApiProblem("idempotency_key_invalid", "Send one Idempotency-Key header.")
        is_for_lane = self._lane.takes(
            method=scope.method, path=scope.path, query=scope.query_string
        )
        body = Body(scope, wire, self._room, is_for_lane=is_for_lane)
        try:
            if is_for_lane and body.is_short and self._gathering.keeps_waiting(scope):
                # It waits for a thread now, and its body comes meanwhile.
                with suppress(NotHere):
                    return await self._hold(scope, body, is_for_lane=True)
            await body.wait()
            return await self._hold(scope, body, is_for_lane=is_for_lane)
        finally:
            body.give_back()

    async def _hold(self, scope: Scope, body: Body, *, is_for_lane: bool) -> Answer | _LongAnswer:
        if self._held >= _HELD_MAX:
            raise problems.unavailable(CROWDED)
        self._held += 1
        try:
            return await self._answer(scope, body, is_for_lane=is_for_lane)
        finally:
            self._held -= 1

    async def _answer(self, scope: Scope, body: Body, *, is_for_lane: bool) -> Answer | _LongAnswer:
        if is_for_lane:
            try:
                answer = await self._gathering.answer(scope, body)
            except Crowded:
                raise problems.unavailable(CROWDED) from None
            if answer is not None:
                return answer
        file = body.find()
        assert file is not None  # noqa: S101  (it was waited for, or the lane had it)
        environ = make_environ(scope, file, body.length, arrived=time.monotonic())
        if (scope.method, scope.path) == ("POST", _SIGN_IN):
            browser = find_browser(environ.get("HTTP_COOKIE", ""))
            # All are one caller, or two, with a name that no token has: there is a space in it.
            caller = f"POST {_SIGN_IN} known" if browser else f"POST {_SIGN_IN}"
            with self._signing_in_of(browser or find_sender(scope)):
                return await self._ask_in_turn(caller, environ, waiting_max=_SIGN_INS_WAITING_MAX)
        # Who sends no key is staff, or asks for little.
        token = (scope.headers.get("authorization") or "").rpartition(" ")[2]
        return await self._ask_in_turn(token, environ)

    @contextmanager
    def _signing_in_of(self, sender: str) -> Iterator[None]:
        if self._signing_in[sender] >= _SIGN_INS_OF_ONE_MAX:
            raise places.too_many("sender")
        self._signing_in[sender] += 1
        try:
            yield
        finally:
            self._signing_in[sender] -= 1
            if not self._signing_in[sender]:
                del self._signing_in[sender]

    async def _ask_in_turn(
        self, key: str, environ: Environ, *, waiting_max: int = 0
    ) -> Answer | _LongAnswer:
        waiting_max = max(waiting_max, places.at_once_max())
        turn = await self._take_turn(key, waiting_max) if key else None
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._ask_django, environ)
        finally:
            if turn is not None:
                self._end_turn(key, turn)

    async def _take_turn(self, key: str, waiting_max: int) -> _Turn:
        """
        Wait until a request under this key may be begun; `_end_turn` lets the next one.

        :raises ApiProblem: `rate_limited` (429), if as many wait as it may have at once
        """
        if self._pacing.count_waiting(key) >= waiting_max:
            raise places.too_many("caller")
        turn = asyncio.get_running_loop().create_future()
        self._pacing.look()
        if self._pacing.begin(key, (key, turn)):
            return turn
        self._begin_ready()
        try:
            await turn
        except asyncio.CancelledError:
            # It was its turn, and nobody takes it.
            if not turn.cancelled():
                self._end_turn(key, turn)
            raise
        return turn

    def _end_turn(self, key: str, turn: _Turn) -> None:
        self._pacing.end(key, (key, turn))
        self._begin_ready()

    def _begin_ready(self) -> None:
        while ready := self._pacing.ready():
            for key, turn in ready:
                if turn.cancelled():
                    self._pacing.end(key, (key, turn))
                else:
                    turn.set_result(None)

    def _ask_django(self, environ: Environ) -> Answer | _LongAnswer:
        """Return Django's answer, on a thread of its own."""
        # What is refused before a middleware begins one is not of the request before it.
        begin_request(environ)
        said: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: object = None
        ) -> None:
            said[:] = [int(status.split(" ", 1)[0]), headers]

        parts = self._django(environ, start_response)
        try:
            status, headers = said
            if status in _BODILESS or any(name == "Content-Length" for name, _value in headers):
                return Answer(status, headers, b"".join(parts))
            return _whole(status, headers, parts)
        finally:
            # What ends a request for Django; a long answer must come to it too.
            if hasattr(parts, "close"):
                parts.close()
            environ["wsgi.input"].close()


def _leave() -> None:
    """
    End the process without taking the interpreter apart.

    Threads of the server may still have to let go of an object of Python's. Below Python 3.14 the
    interpreter ends them then, in the middle of code that cannot be unwound, and that aborts the
    process: after its last answer, but as if it had crashed. Called when the server has returned.
    """
    sentry_sdk.flush()
    logging.shutdown()
    os._exit(0)


def _fault() -> ApiProblem:
    return ApiProblem("internal_error", "Something went wrong on our side.")


def _whole(
    status: int, headers: list[tuple[str, str]], parts: Iterable[bytes]
) -> Answer | _LongAnswer:
    """
    Return an answer whose length nobody has told, in a file until it is whole.

    So a fault in the middle is an error and not a short file that looks like a whole one, and a
    client that reads slowly holds neither thread nor transaction nor memory.
    """
    # Closed when the server has opened it for itself.
    file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES_MAX)  # noqa: SIM115
    try:
        for part in parts:
            file.write(part)
        length = file.tell()
        headers = [*headers, ("Content-Length", str(length))]
        if length > IN_MEMORY_BYTES_MAX:
            file.flush()
            file.seek(0)
            return _LongAnswer(status, headers, file)
        file.seek(0)
        return Answer(status, headers, file.read())
    except BaseException:
        file.close()
        raise


def _refuse(scope: Scope, problem: ApiProblem) -> Answer:
    """Return the answer to a request that never came to Django, and write its line."""
    begun = begin_request({"HTTP_REQUEST_ID": scope.headers.get("request-id")})
    response = _word(scope, problem)
    log_request(begun, method=scope.method, route=None, status=response.status_code)
    headers = [
        *response.items(),
        ("Content-Length", str(len(response.content))),
        ("Request-Id", begun.request_id),
    ]
    return Answer(response.status_code, headers, response.content)


def _word(scope: Scope, problem: ApiProblem) -> HttpResponse:
    """Return the words for whoever asked, people or programs."""
    if scope.path.startswith(PAGES):
        response = say(problem)
        response["Cache-Control"] = "no-store"
        response["X-Content-Type-Options"] = "nosniff"
        return response
    request = HttpRequest()
    response = problems.respond(problem, request)
    response["Content-Security-Policy"] = API_CONTENT_POLICY
    add_headers(request, response)
    return response
