"""Resolving a receiver's name within a limit, and judging every address it has."""

import queue
import socket
import threading
from collections.abc import Callable
from typing import Final

from apps.webhooks.errors import UrlRefused
from apps.webhooks.rules import targets
from apps.webhooks.rules.targets import Policy, Target

RESOLVE_SECONDS_MAX: Final = 2.0

type Resolver = Callable[[str, int], list[str]]


class Unresolvable(Exception):
    """The name has no address, or none within the limit."""


def resolve(host: str, port: int) -> list[str]:
    """
    Return the addresses of a name, in the resolver's order.

    :raises Unresolvable: if there is none, or the resolver takes too long
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except OSError as error:
            answers.put(error)
        # A name that no codec takes is a name without addresses.
        except UnicodeError as error:
            answers.put(OSError(str(error)))

    # getaddrinfo knows no time limit. The thread is left behind when it takes too long; the C
    # library's own limits end it, and as a daemon it holds up no shutdown.
    threading.Thread(target=look_up, daemon=True, name="webhook-resolver").start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS_MAX)
    except queue.Empty as error:
        raise Unresolvable("The name was not resolved in time.") from error
    if isinstance(answer, OSError) or not answer:
        raise Unresolvable("The name has no address.")
    return answer


def check_at_save(target: Target, *, policy: Policy, resolver: Resolver = resolve) -> None:
    """
    Refuse, when an endpoint is saved, a URL to which nothing could be sent as things are.

    :raises UrlRefused: with the `reason` unresolvable or address
    """
    try:
        found = resolver(target.host, target.port)
    except Unresolvable as error:
        raise UrlRefused("The host of this URL has no address.", reason="unresolvable") from error
    if not targets.are_allowed(found, policy=policy):
        raise UrlRefused("Webhooks are not sent to this address.", reason="address")
