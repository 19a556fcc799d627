"""The base of a lean view of which one thread serves many requests by turns (ADR 0091)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from django.http import HttpRequest, HttpResponse

from apps.core import context
from apps.core.api import limits, places, problems
from apps.core.api.caller import Caller, prepare
from apps.core.api.views import LeanApiView
from apps.core.context import RequestContext

log = structlog.stdlib.get_logger(__name__)

# A request, and the context that was begun for it.
type Begun = tuple[RequestContext, HttpRequest]


class GatheringApiView[Asked](LeanApiView, ABC):
    """
    A lean view whose POST takes three steps, so that one thread may serve many requests by turns.

    `ask` reads one request and waits for nothing, `do` does what several of one organization asked
    for, and `show` answers one of them. `do_ahead` may do some of what several organizations asked.
    """

    @abstractmethod
    def ask(self, request: HttpRequest, caller: Caller) -> Asked:
        """Read the request; return what it asks for."""

    def do_ahead(self, asked: Mapping[UUID, Sequence[Asked]]) -> None:
        """
        Do at once what organizations asked for together, as far as nothing of it has to wait.

        `do` is called for the rest afterwards, organization by organization; where some of what one
        asked is done, it leaves that.
        """

    def is_done(self, asked: Asked) -> bool:  # noqa: ARG002
        """Say whether `do_ahead` has done what was asked for, so that only its answer is left."""
        return False

    @abstractmethod
    def do(self, organization_id: UUID, asked: Sequence[Asked]) -> None:
        """Do what was asked for, all of it for one organization."""

    @abstractmethod
    def show(self, asked: Asked) -> HttpResponse:
        """Answer what was asked for, or raise what it met."""

    def post(self, request: HttpRequest, caller: Caller) -> HttpResponse:
        """Answer one request."""
        asked = self.ask(request, caller)
        self.do(caller.organization_id, [asked])
        return self.show(asked)

    def admit_many(
        self, requests: Mapping[int, Begun]
    ) -> tuple[dict[int, HttpResponse], dict[UUID, dict[int, Asked]]]:
        """
        Admit many POSTs as `dispatch` does one, each in its own context; they have places.

        Return those that are answered by then, refused or done ahead, and what the others ask for,
        by organization, for each of which `carry_out` or `give_up` is called.
        """
        try:
            answers, asked = self._ask_many(requests)
            if asked:
                self._do_ahead(asked)
            for organization_id, of_one in [*asked.items()]:
                if all(map(self.is_done, of_one.values())):
                    # What not even a fault can be made of is shown again, in a part of its own.
                    with suppress(Exception):
                        answers |= self._show_all(requests, of_one, met=None)
                        del asked[organization_id]
        # Nobody carries out what was admitted: a place that is kept would be lost to its key.
        except BaseException:
            self.give_up(requests, requests)
            raise
        return answers, asked

    def _ask_many(
        self, requests: Mapping[int, Begun]
    ) -> tuple[dict[int, HttpResponse], dict[UUID, dict[int, Asked]]]:
        answers: dict[int, HttpResponse] = {}
        callers: dict[int, Caller] = {}
        asked: dict[UUID, dict[int, Asked]] = {}
        prepare([request for _begun, request in requests.values()])
        for place, (begun, request) in requests.items():
            context.resume(begun)
            try:
                caller = self._caller(request)
                places.take(request, caller)
            # Each has its own boundary: a fault of one is not another's.
            except Exception as fault:  # noqa: BLE001
                answers[place] = problems.respond(fault, request)
            else:
                callers[place] = caller
        limits.reserve(list(callers.values()), kind="write")
        for place, caller in callers.items():
            begun, request = requests[place]
            context.resume(begun)
            try:
                limits.count(request, caller)
                one = self.ask(request, caller)
            except Exception as fault:  # noqa: BLE001 - see above
                answers[place] = problems.respond(fault, request)
                places.release(request)
            else:
                asked.setdefault(caller.organization_id, {})[place] = one
        return answers, asked

    def _do_ahead(self, asked: Mapping[UUID, Mapping[int, Asked]]) -> None:
        # What is logged here is of none of them.
        context.begin()
        try:
            self.do_ahead({id_: list(of_one.values()) for id_, of_one in asked.items()})
        # It is one place for all of them: what it left undone, `do` does for each.
        except Exception:
            log.exception("not_done_ahead", size=len(asked))

    def carry_out(
        self, requests: Mapping[int, Begun], organization_id: UUID, asked: Mapping[int, Asked]
    ) -> dict[int, HttpResponse]:
        """Do what requests of one organization were admitted for, and answer each of them."""
        try:
            # What is logged meanwhile is of the first of them, not of one that was refused.
            context.resume(requests[min(asked)][0])
            met = self._do(organization_id, list(asked.values()))
            return self._show_all(requests, asked, met=met)
        finally:
            self.give_up(requests, asked)

    @staticmethod
    def give_up(requests: Mapping[int, Begun], asked: Iterable[int]) -> None:
        """Give back the places of requests that were admitted."""
        for place in asked:
            places.release(requests[place][1])

    def _do(self, organization_id: UUID, asked: Sequence[Asked]) -> Exception | None:
        """Do what was asked for; return the fault that all of it met."""
        try:
            self.do(organization_id, asked)
        except Exception as fault:  # noqa: BLE001 - see above
            return fault
        return None

    def _show_all(
        self, requests: Mapping[int, Begun], asked: Mapping[int, Asked], *, met: Exception | None
    ) -> dict[int, HttpResponse]:
        answers: dict[int, HttpResponse] = {}
        for place, one in asked.items():
            begun, request = requests[place]
            context.resume(begun)
            answers[place] = self._show(one, request, met=met)
            places.release(request)
        return answers

    def _show(self, asked: Asked, request: HttpRequest, *, met: Exception | None) -> HttpResponse:
        if met is not None:
            return problems.respond(met, request)
        try:
            return self.show(asked)
        except Exception as fault:  # noqa: BLE001 - see above
            return problems.respond(fault, request)
