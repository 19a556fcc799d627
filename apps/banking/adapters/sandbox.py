"""The sandbox bank over HTTP (`sandbox/README.md`)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, override

import httpx
from django.conf import settings

from apps.banking.adapters.port import BankChannel, FetchedFile, SendOutcome
from apps.core.errors import Declined, OutcomeUnknown, Unavailable

TIMEOUT_SECONDS: Final = 10.0
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_MISSING: Final = 404
_FAULT: Final = 500
_REFUSED: Final = 400


class SandboxChannel(BankChannel):
    """The project's own bank, as settings.SANDBOX_URL names it."""

    def __init__(self, *, url: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = (url or settings.SANDBOX_URL).rstrip("/")
        self._timeout_seconds = timeout_seconds

    @override
    def send(self, *, name: str, content: bytes) -> SendOutcome:
        try:
            answer = httpx.post(
                f"{self._url}/bank/files",
                content=content,
                headers={"Content-Type": "application/xml"},
                timeout=self._timeout_seconds,
            )
        except _NOT_SENT as fault:
            raise Unavailable(f"The bank was not reached: {type(fault).__name__}.") from fault
        except httpx.HTTPError as fault:
            # Bytes may have left: whether the bank has them is for its own answer to say.
            raise OutcomeUnknown(f"The bank gave no answer: {type(fault).__name__}.") from fault
        if answer.status_code >= _FAULT:
            raise OutcomeUnknown(f"The bank answered {answer.status_code}.")
        if answer.status_code >= _REFUSED:
            raise Declined("The bank refused the file.", code=str(answer.status_code))
        return SendOutcome.SENT

    @override
    def fetch(self, *, after: int, ibans: Sequence[str]) -> Iterable[FetchedFile]:
        return self._pages(after, ",".join(ibans))

    def _pages(self, after: int, ibans: str) -> Iterator[FetchedFile]:
        # The bank answers at most 200 at a time: ask on until there are no more.
        while listed := self._get(f"/bank/files?after={after}&iban={ibans}").json()["files"]:
            for file in listed:
                number = int(file["id"])
                content = self._get(f"/bank/files/{number}").content
                yield FetchedFile(
                    number=number, name=f"{file['kind']}-{number}.xml", content=content
                )
                after = number

    @override
    def status(self, *, message_id: str) -> bool | None:
        return self._get(f"/bank/messages/{message_id}").status_code != _MISSING

    def _get(self, path: str) -> httpx.Response:
        try:
            answer = httpx.get(f"{self._url}{path}", timeout=self._timeout_seconds)
        except httpx.HTTPError as fault:
            raise Unavailable(f"The bank was not reached: {type(fault).__name__}.") from fault
        if answer.status_code >= _REFUSED and answer.status_code != _MISSING:
            raise Unavailable(f"The bank answered {answer.status_code}.")
        return answer
