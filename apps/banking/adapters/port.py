"""The port: what every way to a bank can do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file the bank has for us; `number` is the bank's own, ascending."""

    number: int
    name: str
    content: bytes


class SendOutcome(StrEnum):
    """What a channel did with a file it did not fail on."""

    SENT = "sent"
    # It waits for a person, who downloads it and says when it left.
    BY_HAND = "by_hand"


class BankChannel(Protocol):
    """One bank's channel. Each call ends, or raises one of `OutsideCallError`'s three."""

    def send(self, *, name: str, content: bytes) -> SendOutcome:
        """
        Hand over a payment file.

        :raises Declined: if the bank said no: it does not have it
        :raises Unavailable: if nothing was sent
        :raises OutcomeUnknown: if it may have it
        """

    def fetch(self, *, after: int, ibans: Sequence[str]) -> Iterable[FetchedFile]:
        """
        Yield the files about these accounts with a greater number, ascending.

        :raises Unavailable: if the bank cannot be reached
        """

    def status(self, *, message_id: str) -> bool | None:
        """
        Say whether the bank has our message; None if this channel cannot say.

        :raises Unavailable: if the bank cannot be reached
        """
