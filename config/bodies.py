"""
How the bodies of requests come in, with a bound for each kind of request and in time.

What they take up until they are answered is bounded too, of a process and of one sender; and who
shows neither key nor session has nothing long read (docs/adr/0145).

One that is short is read by the server while we do something else: whoever asks for it later finds
it, and the loop is woken only for those who wait for it (docs/adr/0137, 0181).
"""

import asyncio
import io
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol, cast

from django.conf import settings

from apps.accounts.rules import parse_token
from apps.core import strict_json
from apps.core.api import problems
from apps.core.api.caller import address_behind, sender_of
from apps.core.api.problems import ApiProblem
from config.environ import Scope

_MIB: Final = 2**20
# What is longer than that is refused unread: a transfer or a provider's event, the longest JSON
# that the API takes (a batch), and a bank's statement as a file, by the API or in the back office.
_LANE_BYTES_MAX: Final = strict_json.BYTES_MAX
_HOOK_BYTES_MAX: Final = _MIB
_API_BYTES_MAX: Final = 16 * _MIB
BYTES_MAX: Final = 64 * _MIB
FILES: Final = "/v1/bank_files"
_HOOKS: Final = "/hooks/"
IN_MEMORY_BYTES_MAX: Final = _MIB
_SECONDS_MAX: Final = 60.0
# So much of each connection is not worth counting, and is all that a stranger has read: in no more
# time than headers may take, since a process that is to end waits for it (docs/adr/0153).
_SMALL_BYTES_MAX: Final = 64 * 2**10
_SMALL_SECONDS_MAX: Final = 10.0
# What longer ones take up in a process, and the part of it that one sender may have.
_MEMORY_BYTES_MAX: Final = 128 * _MIB
_FILES_BYTES_MAX: Final = 1024 * _MIB
_OF_ONE_SENDER: Final = 4

CROWDED: Final = "We are busy just now; try again with the same idempotency key."


class Reading(Protocol):
    """A body that the server reads, on a thread of its own."""

    def __await__(self) -> Generator[Any, None, bytes]:
        """Wait for the whole body."""
        ...

    def done(self) -> bool:
        """Say whether it is here, or never will be."""
        ...

    def result(self) -> bytes:
        """Return the whole body, which is here."""
        ...


class Source(Protocol):
    """Where the body of a request comes from (RSGI)."""

    def __call__(self) -> Reading:
        """Begin to read the whole body."""
        ...

    def __aiter__(self) -> Any:  # noqa: ANN401 - granian's own iterator
        """Yield the body's parts."""
        ...


class Gone(Exception):
    """The client, or its sending side, is not there any more."""


class NotHere(Exception):
    """The request was not begun: its body had not come when its turn was there."""


class _Space:
    """Memory or disk for bodies, of which each sender may have a part. The loop's alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by: Counter[str] = Counter()

    def take(self, sender: str, count: int) -> None:
        """
        Take so many bytes.

        :raises ApiProblem: `unavailable` (503), or `rate_limited` (429) if the sender has its part
        """
        if self._taken + count > self._most:
            raise problems.unavailable(CROWDED)
        if self._by[sender] + count > self._most // _OF_ONE_SENDER:
            raise problems.limited("Too much is being received from this sender.", 1)
        self._taken += count
        self._by[sender] += count

    def give_back(self, sender: str, count: int) -> None:
        """Give back what was taken."""
        self._taken -= count
        self._by[sender] -= count
        if not self._by[sender]:
            del self._by[sender]


class Room:
    """Where the longer bodies of a process lie until their requests are answered."""

    def __init__(self) -> None:
        self.memory = _Space(_MEMORY_BYTES_MAX)
        self.files = _Space(_FILES_BYTES_MAX)


class Body:
    """
    The body of a request: in memory if it is short and declares its length, else in a file.

    :raises ApiProblem: `body_too_large` (413), if it declares to be longer than it may be;
        `length_required` (411), if it declares no length and nothing else shows that it is whole;
        `unauthenticated` (401), if it is long and its sender shows no key; 429 or 503, if there is
        no room for it
    """

    def __init__(self, scope: Scope, source: Source, room: Room, *, is_for_lane: bool) -> None:
        given = scope.headers.get("content-length")
        # The server has refused whatever is not a number; without one only chunks have a length.
        declared = int(given) if given else None
        is_chunked = declared is None and scope.headers.get("transfer-encoding") is not None
        self._bytes_max = _bytes_max(scope, is_for_lane=is_for_lane)
        if declared is not None and declared > self._bytes_max:
            raise self._too_large()
        # Chunks that break off look like chunks that ended. A provider's event is signed, and a
        # bank's file has an end of its own.
        if is_chunked and not (scope.path.startswith(_HOOKS) or scope.path == FILES):
            raise ApiProblem("length_required", "Send the body with its Content-Length.")
        self._space: _Space | None = None
        self._taken = 0
        if is_chunked or (declared or 0) > _SMALL_BYTES_MAX:
            _refuse_stranger(scope)
            # At hooks nobody shows anything before it is read: all there have one part together.
            self._sender = _HOOKS if scope.path.startswith(_HOOKS) else find_sender(scope)
            is_in_memory = declared is not None and declared <= IN_MEMORY_BYTES_MAX
            self._space = room.memory if is_in_memory else room.files
            if is_in_memory:
                # The server has it, as it comes, before we do.
                self._take(declared or 0)
        # From now on, also where its request waits for its turn before anybody waits for the body.
        seconds = _SMALL_SECONDS_MAX if self._space is None else _SECONDS_MAX
        self._until = time.monotonic() + seconds
        self._declared = declared
        self.length = declared or 0
        self._source = source
        self._reading: Reading | None = None
        self._file: BinaryIO | None = None
        if not (declared or scope.headers.get("transfer-encoding")):
            self._file = io.BytesIO()
        elif declared is not None and declared <= IN_MEMORY_BYTES_MAX:
            self._reading = source()

    def give_back(self) -> None:
        """Give back the room that it took: its request is answered."""
        if self._space is not None and self._taken:
            self._space.give_back(self._sender, self._taken)
            self._taken = 0

    def _take(self, count: int) -> None:
        if self._space is not None and count:
            self._space.take(self._sender, count)
            self._taken += count

    @property
    def is_short(self) -> bool:
        """Say whether it is read meanwhile, without anybody who waits for it."""
        return self._reading is not None

    def find(self) -> BinaryIO | None:
        """Return it from its beginning, on any thread, or None if it is not here whole."""
        if self._file is None and self._reading is not None and self._reading.done():
            # What broke off is said by `wait`.
            with suppress(RuntimeError):
                raw = self._reading.result()
                if len(raw) == self._declared:
                    self._file = io.BytesIO(raw)
        if self._file is not None:
            self._file.seek(0)
        return self._file

    async def wait(self) -> None:
        """
        Wait until it is here.

        :raises ApiProblem: `body_too_large` (413) or `request_timeout` (408)
        :raises Gone: if it never will be
        """
        if self._file is not None:
            return
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                if self._reading is not None:
                    raw = await self._reading
                    self.length = len(raw)
                    self._file = io.BytesIO(raw)
                else:
                    await self._read_long()
        except TimeoutError:
            raise ApiProblem("request_timeout", "The body did not come in time.") from None
        except RuntimeError as fault:
            # How granian says that the connection is closed (`RSGIProtocolClosed`).
            raise Gone from fault
        if self._declared not in {None, self.length}:
            # The connection ended before the body did.
            raise Gone

    async def _read_long(self) -> None:
        # Closed at the request's end, or with its last reference.
        file = cast("BinaryIO", tempfile.SpooledTemporaryFile(_SMALL_BYTES_MAX))  # noqa: SIM115
        self.length = 0
        try:
            async for part in self._source:
                self._grow(len(part))
                file.write(part)
        except BaseException:
            file.close()
            raise
        self._file = file

    def _grow(self, count: int) -> None:
        self.length += count
        if self.length > self._bytes_max:
            raise self._too_large()
        self._take(count)

    def _too_large(self) -> ApiProblem:
        return ApiProblem("body_too_large", f"The body is longer than {self._bytes_max} bytes.")


def _refuse_stranger(scope: Scope) -> None:
    """
    Refuse to read a long body of somebody who shows nothing.

    What is shown may be false; that costs whoever makes it up the room of one sender.
    """
    if scope.path.startswith(_HOOKS):
        # It is signed as a whole.
        return
    if scope.path.startswith("/v1/"):
        token = (scope.headers.get("authorization") or "").rpartition(" ")[2]
        if parse_token(token) is None:
            raise ApiProblem("unauthenticated", "Send your API key as Authorization: Bearer <key>.")
    elif f"{settings.SESSION_COOKIE_NAME}=" not in (scope.headers.get("cookie") or ""):
        raise ApiProblem("unauthenticated", "Sign in first.")


def find_sender(scope: Scope) -> str:
    """Return who the address of a request stands for, as the limits of requests count them."""
    lines = [value for name, value in scope.headers.items() if name == "x-forwarded-for"]
    remote = scope.client.rpartition(":")[0].strip("[]")
    return sender_of(address_behind(",".join(lines), remote))


def _bytes_max(scope: Scope, *, is_for_lane: bool) -> int:
    if is_for_lane:
        return _LANE_BYTES_MAX
    if scope.path.startswith(_HOOKS):
        return _HOOK_BYTES_MAX
    is_short = scope.path.startswith("/v1/") and scope.path != FILES
    return _API_BYTES_MAX if is_short else BYTES_MAX
