"""What gathers for the express lane: a request, and those that are answered together, as a turn."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import structlog

from apps.core import context
from config.bodies import Body, NotHere
from config.environ import Scope, make_environ
from config.express import Answer, ExpressLane, Part

log = structlog.stdlib.get_logger("kassa.lane")

# Whoever asked so long ago has given up by now, and asks again: what was not begun is not done.
_WAIT_SECONDS_MAX: Final = 15.0


class Crowded(Exception):
    """The request was not begun: it waited too long, or its process is ending."""


class Failed(Exception):
    """The lane itself has failed; whether the request was carried out is not known."""


@dataclass(slots=True, eq=False)
class Request:
    """One that waits to be answered, and what its key is."""

    key: str
    scope: Scope
    body: Body
    answered: asyncio.Future[Answer | None]
    arrived: float = field(default_factory=time.monotonic)


type Told = tuple[Request, Answer | Exception | None]


class Turn:
    """Requests that were taken together, the parts that are left of them, and what is answered."""

    __slots__ = ("answered", "begun", "left", "parts", "requests")

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.parts: deque[Part] = deque()
        # When the last of its parts was begun.
        self.begun = time.monotonic()
        # What nobody was told yet.
        self.answered: list[Told] = []
        # How many requests of each key are not answered yet.
        self.left: dict[str, int] = {}
        for request in requests:
            self.left[request.key] = self.left.get(request.key, 0) + 1

    def admit(self, lane: ExpressLane, note: Callable[[list[Told]], None]) -> None:
        """Have the requests admitted: what is left are its parts, and what is decided is noted."""
        # What is logged here is of none of them.
        context.begin()
        try:
            bodies, told = self._leave_out()
            # Before the lane waits for anything.
            note(told)
            environs = [
                make_environ(one.scope, body, one.body.length, arrived=one.arrived)
                for one, body in zip(self.requests, bodies, strict=True)
            ]
            self.parts.extend(lane.admit(environs))
        # The boundary: views answer their own faults, so this one is of the lane itself. Even what
        # ends a thread must not end it: its keys would never be served again.
        except BaseException:
            # Of none of them; and they are told also where there is not the memory to say so.
            with suppress(Exception):
                context.begin()
                log.exception("lane_failed", size=len(self.requests))
            note([(one, Failed()) for one in self.requests])

    def _leave_out(self) -> tuple[list[BinaryIO], list[Told]]:
        """
        Leave out what is not to be begun: it waited too long, or is not here whole.

        Return the bodies of the others, in their order, and what those left out are to be told.
        """
        since, begun, told = time.monotonic() - _WAIT_SECONDS_MAX, list[Request](), list[Told]()
        bodies: list[BinaryIO] = []
        for one in self.requests:
            if one.arrived < since:
                told.append((one, Crowded()))
            elif (body := one.body.find()) is None:
                told.append((one, NotHere()))
            else:
                begun.append(one)
                bodies.append(body)
        self.requests = begun
        return bodies, told

    def answer(self, part: Part) -> list[Told]:
        """Answer a part, unless it was kept back for too long."""
        requests = [self.requests[place] for place in part.places]
        since = time.monotonic() - _WAIT_SECONDS_MAX
        try:
            if part.organization_id is not None and all(one.arrived < since for one in requests):
                part.give_up()
                return [(one, Crowded()) for one in requests]
            return list(zip(requests, part.answer(), strict=True))
        # The boundary, as above.
        except BaseException:
            with suppress(Exception):
                context.begin()
                log.exception("lane_failed", size=len(requests))
            return [(one, Failed()) for one in requests]


def tell(told: Sequence[Told]) -> None:
    """Have each request told its answer, on the loop; one loop serves all of a process."""
    if told:
        told[0][0].answered.get_loop().call_soon_threadsafe(_hand_out, told)


def _hand_out(told: Sequence[Told]) -> None:
    for request, answer in told:
        # Nobody waits any more for one that was cancelled.
        if request.answered.done():
            continue
        if isinstance(answer, Exception):
            request.answered.set_exception(answer)
        else:
            request.answered.set_result(answer)
