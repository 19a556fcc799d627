"""
What the HTTP server calls: every request comes in here, on one event loop in each process.

The loop waits for bodies, so that a slow client holds no thread, and sends answers; it never waits
for Postgres or Redis. Requests of the express lane gather by their API key, and one thread answers
what has gathered; all others are Django's, a thread for each (docs/adr/0091, 0005).
"""

import asyncio
import io
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, BinaryIO, Final, Protocol, cast

import structlog
from django.db import close_old_connections

from config.environ import Scope, make_environ
from config.express import Answer, Environ, ExpressLane

log = structlog.stdlib.get_logger("kassa.front")

type Application = Callable[[Environ, Any], Iterable[bytes]]

# The largest that anything of ours takes is far below: a statement of a bank, as a file.
BODY_BYTES_MAX: Final = 64 * 2**20
_IN_MEMORY_BYTES_MAX: Final = 2**20
# For a body to arrive, and for a client to take the next part of a long answer.
_BODY_SECONDS_MAX: Final = 60.0
_SEND_SECONDS_MAX: Final = 60.0
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

# So many requests of a key are answered by turns before the first of them is.
_GATHERED_MAX: Final = 128


class Transport(Protocol):
    """The body of a long answer (RSGI)."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a part of it."""
        ...


class Wire(Protocol):
    """One request's way to its client (RSGI): its body comes, its answer goes."""

    async def __call__(self) -> bytes:
        """Return the whole body."""
        ...

    def __aiter__(self) -> Any:  # noqa: ANN401 - granian's own iterator
        """Yield the body's parts."""
        ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""
        ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Transport:
        """Begin an answer whose length is not known."""
        ...


class _Gathered:
    """A request of the lane that waits for its answer."""

    __slots__ = ("answered", "arrived", "body", "length", "scope")

    def __init__(
        self, scope: Scope, body: BinaryIO, length: int, answered: asyncio.Future[Answer | None]
    ) -> None:
        self.scope = scope
        self.body = body
        self.length = length
        self.answered = answered
        self.arrived = time.monotonic()


class _Refused(Exception):
    """The body of a request is not one that is taken."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Gone(Exception):
    """The client is not there any more."""


class Front:
    """An RSGI application: the express lane, and Django behind it."""

    def __init__(self, django: Application, lane: ExpressLane, *, threads: int) -> None:
        self._django = django
        self._lane = lane
        # Each sort has its own: a key whose transfers all wait keeps nobody out of the back office.
        self._for_lane = ThreadPoolExecutor(max(1, threads // 4), thread_name_prefix="lane")
        self._for_django = ThreadPoolExecutor(
            max(1, threads - threads // 4), thread_name_prefix="django"
        )
        # By key, what no thread has taken yet; a key is here while a thread is at it.
        self._waiting: dict[str, deque[_Gathered]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        for pool in (self._for_lane, self._for_django):
            pool.shutdown(wait=True)

    async def __rsgi__(self, scope: Scope, wire: Wire) -> None:
        try:
            await self._serve(scope, wire)
        except _Gone:
            return
        except TimeoutError:
            _refuse(wire, HTTPStatus.REQUEST_TIMEOUT)
        except _Refused as refused:
            _refuse(wire, refused.status)

    async def _serve(self, scope: Scope, wire: Wire) -> None:
        body, length = await _read(scope, wire)
        if self._lane.takes(method=scope.method, path=scope.path, query=scope.query_string):
            answer = await self._gather(scope, body, length)
            if answer is not None:
                wire.response_bytes(*answer)
                return
            body.seek(0)
        environ = make_environ(scope, body, length, arrived=time.monotonic())
        answer = await self._loop.run_in_executor(self._for_django, self._call, environ, wire)
        if answer is not None:
            wire.response_bytes(*answer)

    # --- The lane ---

    async def _gather(self, scope: Scope, body: BinaryIO, length: int) -> Answer | None:
        """Have the lane answer a request; None if it is Django's."""
        request = _Gathered(scope, body, length, self._loop.create_future())
        # Whoever sends the same key is the same caller, if it is one at all.
        key = scope.headers.get("authorization") or ""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque([request])
            else:
                waiting.append(request)
        if waiting is None:
            self._for_lane.submit(self._work, key)
        return await request.answered

    def _work(self, key: str) -> None:
        """Answer what waits under a key until nothing does, on a thread of the lane."""
        try:
            while batch := self._take(key):
                self._answer(batch)
        finally:
            close_old_connections()

    def _take(self, key: str) -> list[_Gathered]:
        """Return what has gathered under a key; with nothing there, the next one begins anew."""
        with self._lock:
            waiting = self._waiting[key]
            if not waiting:
                del self._waiting[key]
            return [waiting.popleft() for _ in range(min(len(waiting), _GATHERED_MAX))]

    def _answer(self, batch: Sequence[_Gathered]) -> None:
        answers: Sequence[Answer | None] | Exception
        try:
            answers = self._lane.answer(
                [
                    make_environ(one.scope, one.body, one.length, arrived=one.arrived)
                    for one in batch
                ]
            )
        # The boundary: views answer their own faults, so this one is of the lane itself.
        except Exception as fault:
            log.exception("lane_failed", size=len(batch))
            answers = fault
        self._loop.call_soon_threadsafe(_hand_out, batch, answers)

    # --- Django ---

    def _call(self, environ: Environ, wire: Wire) -> Answer | None:
        """Call Django on this thread; return its answer, or None where it was sent in parts."""
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
            transport = wire.response_stream(status, headers)
            for part in parts:
                if not self._send(transport, part):
                    break
            return None
        finally:
            # What ends a request for Django; a long answer must come to it too.
            if hasattr(parts, "close"):
                parts.close()
            environ["wsgi.input"].close()

    def _send(self, transport: Transport, part: bytes) -> bool:
        """Send a part of a long answer; false when its client does not take it any more."""
        sent = asyncio.run_coroutine_threadsafe(_send(transport, part), self._loop)
        try:
            sent.result(_SEND_SECONDS_MAX)
        except Exception as fault:  # noqa: BLE001 - whatever it was, nobody reads on
            sent.cancel()
            log.info("client_gone", fault=type(fault).__name__)
            return False
        return True


def _hand_out(batch: Sequence[_Gathered], answers: Sequence[Answer | None] | Exception) -> None:
    """Give each request of a batch its answer, on the loop."""
    if isinstance(answers, Exception):
        for request in batch:
            if not request.answered.done():
                request.answered.set_exception(_Refused(HTTPStatus.INTERNAL_SERVER_ERROR))
        return
    for request, answer in zip(batch, answers, strict=True):
        # A client that went away has cancelled it.
        if not request.answered.done():
            request.answered.set_result(answer)


async def _send(transport: Transport, part: bytes) -> None:
    await transport.send_bytes(part)


async def _read(scope: Scope, wire: Wire) -> tuple[BinaryIO, int]:
    """Read the body, in memory if it is short and declares its length; return it and its length."""
    given = scope.headers.get("content-length")
    # The server has refused whatever is not a number; without one only chunks have a length.
    declared = int(given) if given else None
    if not (declared or scope.headers.get("transfer-encoding")):
        return io.BytesIO(), 0
    if declared is not None and declared > BODY_BYTES_MAX:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    async with asyncio.timeout(_BODY_SECONDS_MAX):
        try:
            if declared is not None and declared <= _IN_MEMORY_BYTES_MAX:
                raw = await wire()
                body: BinaryIO = io.BytesIO(raw)
                length = len(raw)
            else:
                body, length = await _read_long(wire)
        except RuntimeError as fault:
            # How granian says that the connection is closed (`RSGIProtocolClosed`).
            raise _Gone from fault
    if declared not in {None, length}:
        # The connection ended before the body did, so nobody waits for an answer.
        raise _Gone
    return body, length


async def _read_long(wire: Wire) -> tuple[BinaryIO, int]:
    # Closed at the request's end, or with its last reference.
    body = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES_MAX))  # noqa: SIM115
    length = 0
    async for part in wire:
        length += len(part)
        if length > BODY_BYTES_MAX:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body.write(part)
    body.seek(0)
    return body, length


def _refuse(wire: Wire, status: HTTPStatus) -> None:
    wire.response_bytes(
        status,
        [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")],
        f"{status.phrase}\n".encode(),
    )
