"""
How the bodies of requests come in, with a bound for each kind of request and in time.

One that is short is read by the server while we do something else: whoever asks for it later finds
it, and the loop is woken only for those who wait for it (docs/adr/0137).
"""

import asyncio
import io
import tempfile
from collections.abc import Generator
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol, cast

from apps.core import strict_json
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
IN_MEMORY_BYTES_MAX: Final = _MIB
_SECONDS_MAX: Final = 60.0


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
    """The client is not there any more."""


class NotHere(Exception):
    """The request was not begun: its body had not come when its turn was there."""


class Body:
    """
    The body of a request: in memory if it is short and declares its length, else in a file.

    :raises ApiProblem: `body_too_large` (413), if it declares to be longer than it may be
    """

    def __init__(self, scope: Scope, source: Source, *, is_for_lane: bool) -> None:
        given = scope.headers.get("content-length")
        # The server has refused whatever is not a number; without one only chunks have a length.
        declared = int(given) if given else None
        self._bytes_max = _bytes_max(scope, is_for_lane=is_for_lane)
        if declared is not None and declared > self._bytes_max:
            raise self._too_large()
        self._declared = declared
        # None while it is not known.
        self.length = declared or 0
        self._source = source
        self._reading: Reading | None = None
        self._file: BinaryIO | None = None
        if not (declared or scope.headers.get("transfer-encoding")):
            self._file = io.BytesIO()
        elif declared is not None and declared <= IN_MEMORY_BYTES_MAX:
            self._reading = source()

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
            async with asyncio.timeout(_SECONDS_MAX):
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
            # The connection ended before the body did, so nobody waits for an answer.
            raise Gone

    async def _read_long(self) -> None:
        # Closed at the request's end, or with its last reference.
        file = cast("BinaryIO", tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES_MAX))  # noqa: SIM115
        self.length = 0
        async for part in self._source:
            self.length += len(part)
            if self.length > self._bytes_max:
                raise self._too_large()
            file.write(part)
        self._file = file

    def _too_large(self) -> ApiProblem:
        return ApiProblem("body_too_large", f"The body is longer than {self._bytes_max} bytes.")


def _bytes_max(scope: Scope, *, is_for_lane: bool) -> int:
    if is_for_lane:
        return _LANE_BYTES_MAX
    if scope.path.startswith("/hooks/"):
        return _HOOK_BYTES_MAX
    is_short = scope.path.startswith("/v1/") and scope.path != FILES
    return _API_BYTES_MAX if is_short else BYTES_MAX
