"""The channel of people: they download what goes and upload what comes."""

from collections.abc import Iterable, Sequence
from typing import override

from apps.banking.adapters.port import BankChannel, FetchedFile, SendOutcome


class ManualChannel(BankChannel):
    """Sends nothing by itself and has nothing to fetch."""

    @override
    def send(self, *, name: str, content: bytes) -> SendOutcome:
        return SendOutcome.BY_HAND

    @override
    def fetch(self, *, after: int, ibans: Sequence[str]) -> Iterable[FetchedFile]:
        return ()

    @override
    def status(self, *, message_id: str) -> bool | None:
        return None
