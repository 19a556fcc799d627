"""
Places in the midst of work where a fault test has a process die, or stand still (ADR 0100).

`KASSA_FAILPOINTS` arms some of them in every process that is given it: `webhooks.sent=kill`, or
`work.claimed=pause@3`, which lets the first two times pass. Production refuses to start with any;
where none is armed, coming by costs a look at an empty mapping.
"""

import os
import re
import signal
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.core.exceptions import ImproperlyConfigured

_STANDARD_ERROR: Final = 2


class Failpoint(StrEnum):
    """Every place, by what has just happened there."""

    # The lease is committed, and nothing is done yet.
    WORK_CLAIMED = "work.claimed"
    # A change is committed, and nobody is told.
    WORK_COMMITTED = "work.committed"
    # Batches have their positions, in a transaction that is not committed.
    OUTBOX_NUMBERED = "outbox.numbered"
    # A consumer's effect is written, in a transaction that is not committed.
    OUTBOX_CONSUMED = "outbox.consumed"
    # A job has done what it does, and its row does not say so.
    JOBS_RAN = "jobs.ran"
    # What a provider's event asks for is done, in a transaction that is not committed.
    INBOX_DECIDED = "inbox.decided"
    # The receiver has the request, and nothing about it is stored.
    WEBHOOKS_SENT = "webhooks.sent"
    # Attempts are stored and deliveries are not moved, in a transaction that is not committed.
    WEBHOOKS_RECORDING = "webhooks.recording"
    # The mail server has the message, and nothing about it is stored.
    MAIL_SENT = "mail.sent"


_TEXT: Final = re.compile(r"(?P<place>[a-z._]+)=(?P<action>kill|pause)(@(?P<times>[1-9]\d*))?")
_ACTIONS: Final = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}


@dataclass(slots=True)
class _Armed:
    """What is to happen at a place, and how many times it is passed before."""

    action: str
    left: int


_armed: dict[str, _Armed] = {}


def arm(text: str) -> None:
    """
    Arm the places that the text names, and no others.

    :raises ImproperlyConfigured: if it names a place or an action that there is not
    """
    _armed.clear()
    for each in filter(None, text.split(",")):
        found = _TEXT.fullmatch(each)
        if found is None or found["place"] not in set(Failpoint):
            msg = f"KASSA_FAILPOINTS: {each!r} is not <place>=kill|pause[@times]."
            raise ImproperlyConfigured(msg)
        _armed[found["place"]] = _Armed(found["action"], int(found["times"] or 1) - 1)


def reach(place: Failpoint) -> None:
    """Do to this process what the place is armed with: end it at once, or stop it until SIGCONT."""
    if not _armed or (armed := _armed.get(place)) is None:
        return
    if armed.left:
        armed.left -= 1
        return
    del _armed[place]
    # Past the log's buffers: this is the last that is heard of the process.
    os.write(_STANDARD_ERROR, f"failpoint {place}: {armed.action} {os.getpid()}\n".encode())
    # To this very thread, which would go on a little if another one were chosen to take the signal.
    signal.pthread_kill(threading.get_ident(), _ACTIONS[armed.action])
