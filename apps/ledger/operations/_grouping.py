"""
Group commit: what threads of one process ask for at once is posted as one batch.

Whoever asks while nobody writes for that organisation writes, at once. Who asks meanwhile waits in
its queue, and when the writer is done the first of them takes all that have gathered as one batch:
one transaction, one COMMIT, each request with its own idempotency row, outcome and answer. There is
no timer and no thread of its own: an idle system posts at once, a busy one fills batches by itself
(ledger.md, section 2). A thread may bring several requests: the web server's lane does.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)

from apps.core import idempotency, statements, transactions
from apps.ledger import queries
from apps.ledger.operations import _engine, _forced, _plain, _suspects
from apps.ledger.operations._tickets import NOBODY, Answer, Ticket, claimed, of_key
from apps.ledger.rules import Outcome

log = structlog.get_logger(__name__)

# A batch this long takes a few hundredths of a second; the next one is not kept waiting longer.
GROUP_MAX: Final = 512
# A group waits so large a part of what its session may, which is what a request may (operations.md,
# F14): it may wait for rows of another process that waits itself, then for what is locked, and the
# rest is for finding out what that is.
_SHARES: Final = 3
# So often a group that was split waits for somebody's rows before the rest of it is told so.
_WAITS_MAX: Final = 3
# So long after a group was begun, or its oldest request came to wait behind others that waited in
# vain, nobody waits once more: the rest of the two seconds is for those that are under way by then.
_PATIENCE_SECONDS: Final = 1.3
# How long those wait once more who have waited with their group, and those who name a suspect:
# while the writer of an organization waits for them, so do all others of it.
_BRIEFLY: Final = "200ms"
_GLANCE: Final = "10ms"


class _Crowded(OperationalError):
    """Told to those who would wait behind others that wait: 503, and nothing was done."""


class _Caller:
    """One thread and the tickets it brought, waiting for their answers."""

    __slots__ = ("leads", "tickets", "turn")

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self.tickets = tickets
        self.leads = False
        # Held until it is this thread's turn: to take its answers, or to write.
        self.turn = threading.Lock()
        self.turn.acquire()


_queues: dict[UUID, list[_Caller]] = {}
_lock: Final = threading.Lock()


def submit(organization_id: UUID, tickets: Sequence[Ticket]) -> None:
    """Have the tickets' transfers posted, by this thread or by another one."""
    transactions.refuse_inside()
    caller = _Caller(tickets)
    with _lock:
        queue = _queues.get(organization_id)
        if queue is None:
            _queues[organization_id] = []
        else:
            queue.append(caller)
    if queue is not None:
        _wait(organization_id, caller)
    if queue is None or caller.leads:
        _write(organization_id, caller)


def post_alone(asked: Iterable[tuple[UUID, Ticket]]) -> None:
    """
    Post what is plain of what organizations ask for, of each the only one, in one trip.

    The others have no answer after it, and are for `submit`; so are those of an organization that
    is being written for, whose next group they are of, or in which somebody sits on something.
    """
    transactions.refuse_inside()
    free = [
        (organization_id, ticket)
        for organization_id, ticket in asked
        if organization_id not in _queues and not _suspects.find(organization_id)
    ]
    try:
        _plain.post(free)
    # There is no connection, and each request is told so.
    except OperationalError as fault:
        for _, ticket in free:
            ticket.fault = fault


def _wait(organization_id: UUID, caller: _Caller) -> None:
    """Wait for the caller's turn; a thread that ends meanwhile leaves no queue without writer."""
    try:
        # Whoever writes needs a connection, which this thread must not keep from it.
        transactions.release_connection()
        caller.turn.acquire()
    except BaseException:
        with _lock:
            queue = _queues.get(organization_id, [])
            if caller in queue:
                queue.remove(caller)
        if caller.leads:
            _hand_on(organization_id)
        raise


def _hand_on(organization_id: UUID) -> None:
    """Let the first of those who wait write next; with nobody there, whoever comes does at once."""
    with _lock:
        waiting = _queues[organization_id]
        heir = waiting.pop(0) if waiting else None
        if heir is None:
            del _queues[organization_id]
        else:
            heir.leads = True
    if heir is not None:
        heir.turn.release()


def _write(organization_id: UUID, leader: _Caller) -> None:
    """Answer the leader's tickets and all that have gathered, and hand the pen on."""
    callers, size = [leader], len(leader.tickets)
    with _lock:
        waiting = _queues[organization_id]
        while waiting and size + len(waiting[0].tickets) <= GROUP_MAX:
            callers.append(waiting.pop(0))
            size += len(callers[-1].tickets)
    try:
        _answer_apart(organization_id, [ticket for caller in callers for ticket in caller.tickets])
    finally:
        _hand_on(organization_id)
        for caller in callers[1:]:
            caller.turn.release()


def _answer_apart(organization_id: UUID, group: Sequence[Ticket]) -> None:
    """Answer those first, as one batch, that name nothing on which somebody seems to sit."""
    suspects = _suspects.find(organization_id)
    others, slow = list[Ticket](), list[Ticket]()
    for ticket in group:
        (others if suspects.isdisjoint(ticket.named) else slow).append(ticket)
    now = time.monotonic()
    # Who has waited behind others that waited in vain has waited.
    since = min(ticket.came for ticket in group) if suspects else now
    until = since + _PATIENCE_SECONDS
    wait = None if until - now > _PATIENCE_SECONDS / 2 else _BRIEFLY
    if len(others) == 1:
        _answer_singly(organization_id, others, wait=wait, until=until)
    elif others:
        _answer(organization_id, others, wait=wait, until=until)
    _answer_late(organization_id, others, until=until)
    if slow:
        _answer_singly(organization_id, slow, wait=_GLANCE, until=until)


def _answer_late(organization_id: UUID, group: Sequence[Ticket], *, until: float) -> None:
    """
    Have those of a group that waited for rows in vain wait once more, together.

    By now the others are posted. What these wait for may be a long batch, which ends. Those that
    name nothing that is locked for long go first.
    """
    late = [ticket for ticket in group if ticket.fault is not None and _is_timeout(ticket.fault)]
    suspects = _suspects.find(organization_id) if late else set()
    for is_locked in (False, True):
        part = [one for one in late if suspects.isdisjoint(one.named) is not is_locked]
        left = until - time.monotonic()
        if not part or left <= 0:
            continue
        for ticket in part:
            # From here on what becomes of it is not known, until it is.
            ticket.fault = None
        fault = _try(organization_id, part, wait=f"{round(left * 1000) + 1}ms")
        if fault is None or len(part) == 1 or _is_timeout(fault) or _is_away(fault):
            continue
        # One of them is to blame, or its key is held: the others are not told what it met.
        log.warning("group_split", size=len(part), fault=type(fault).__name__)
        _answer_singly(organization_id, part, wait=_GLANCE, until=until)


def _answer(
    organization_id: UUID, group: Sequence[Ticket], *, wait: str | None, until: float
) -> None:
    """Give each ticket its answer, or the fault that it met. Raises nothing but a thread's end."""
    fault = _try(organization_id, group, wait=wait)
    if fault is None or len(group) == 1 or _is_away(fault):
        return
    # One of them is to blame and is not known: each for itself, as it was tried. Where they waited
    # for somebody, those that are free have waited long enough.
    log.warning("group_split", size=len(group), fault=type(fault).__name__)
    for ticket in group:
        ticket.is_engines = True
    is_late = _is_timeout(fault) or isinstance(fault, idempotency.RequestInProgress)
    _answer_singly(organization_id, group, wait=_BRIEFLY if is_late else wait, until=until)


def _try(organization_id: UUID, group: Sequence[Ticket], *, wait: str | None) -> Exception | None:
    """Give each ticket of a group its answer, or all of them the fault that they met; return it."""
    try:
        answers, recorded_at = _posted(organization_id, group, wait=wait)
    # The boundary: the fault is raised again in the thread of each request that it is of.
    except Exception as fault:  # noqa: BLE001
        for ticket in group:
            ticket.fault = fault
        # Postgres refuses what nobody can ask for, as where an account was damaged. Those of other
        # organizations are to go without it for a while: what it meets in their call is theirs too.
        if len(group) == 1 and isinstance(fault, IntegrityError | DataError | InternalError):
            _suspects.note(organization_id, group[0].accounts)
        return fault
    for ticket, answer in zip(group, answers, strict=True):
        ticket.answer, ticket.recorded_at, ticket.fault = answer, recorded_at, None
        _suspects.clear(organization_id, ticket.named)
    return None


def _posted(
    organization_id: UUID, group: Sequence[Ticket], *, wait: str | None
) -> tuple[list[Answer], datetime | None]:
    """Return the answers of a group, and when what it posted was recorded."""
    # Where somebody sits on a row, who waits for it and for how long is what counts.
    if wait is None and not any(ticket.is_engines for ticket in group):
        if len(group) == 1:
            _plain.post([(organization_id, group[0])])
        else:
            _plain.post_together(organization_id, group)
        made = [ticket.answer for ticket in group if ticket.answer is not None]
        if made:
            return made, group[0].recorded_at
    answers, recorded = _post(organization_id=organization_id, group=group, wait=wait)
    # It came with COMMIT's answer.
    [(recorded_at,)] = recorded.rows() if recorded else [(None,)]
    return answers, recorded_at


def _answer_singly(
    organization_id: UUID, group: Sequence[Ticket], *, wait: str | None, until: float
) -> None:
    """
    Answer each for itself.

    Where one has waited in vain for an account, the others that name that account are told so and
    do not wait as long one after the other. Where somebody sits on many, all that are left are told
    so after a few waits: each would be one more. From `until` on none of them waits, and what they
    name is looked at once, so that it is known to the next group.
    """
    stuck: dict[UUID, Exception] = {}
    waits, has_looked = 0, False
    given_up: Exception | None = None
    for ticket in group:
        ticket.fault = next((stuck[id_] for id_ in ticket.accounts if id_ in stuck), None)
        if waits >= _WAITS_MAX and ticket.fault is None:
            ticket.fault = given_up
        if ticket.fault is not None:
            continue
        is_over = time.monotonic() >= until
        _try(organization_id, [ticket], wait=_GLANCE if is_over else wait)
        if isinstance(ticket.fault, idempotency.RequestInProgress):
            # As all keys of a group are held whose COMMIT was not answered: so each would wait.
            waits += 1
            given_up = _Crowded("Others of this organization wait for too long.")
            _suspects.note(organization_id, [ticket.asked.key])
        elif ticket.fault is not None and _is_timeout(ticket.fault):
            waits += 1
            given_up = ticket.fault
            if not has_looked or not is_over:
                has_looked = True
                locked = _suspects.look(organization_id, ticket.accounts)
                stuck |= dict.fromkeys(locked, ticket.fault)


def _is_away(fault: Exception) -> bool:
    """Whether the database, or the way there, is what failed: then it would for each."""
    # Not any database error without a state: one of the driver's own is about one value.
    is_lost = isinstance(fault, OperationalError | InterfaceError)
    return is_lost and not transactions.sqlstate(fault)


def _is_timeout(fault: Exception) -> bool:
    """Whether a lock, a statement or the transaction took longer than it may."""
    return transactions.sqlstate(fault) in {"55P03", "57014", "25P04"}


@transactions.outermost
def _post(
    *, organization_id: UUID, group: Sequence[Ticket], wait: str | None
) -> tuple[list[Answer], statements.Answer | None]:
    """
    Post a group in one transaction; every request is refused, replayed or posted by itself.

    Beside the answers: what tells when what was posted was recorded, after COMMIT. `wait`: how long
    it waits for a key or an account that somebody holds, if not its share of what its session does.
    """
    met = [ticket.met for ticket in group if ticket.met is not None]
    for ticket in group:
        ticket.met = None
    if met:
        # The run that met it was the first of those that there may be (rule 5 of the map).
        raise met[0]
    if wait is not None:
        # In the trip of the keys and the locks, and of this transaction alone.
        statements.send(_suspects.WAIT, {"wait": wait})
    by_key: dict[str, Ticket] = {}
    for ticket in group:
        by_key.setdefault(ticket.asked.key, ticket)
    firsts = list(by_key.values())
    claiming = idempotency.Claiming(
        organization_id,
        [ticket.asked for ticket in firsts],
        waits=_SHARES if wait is None else None,
    )
    # In the same trip, behind the keys.
    locked = queries.lock_claimed_balances(
        organization_id=organization_id,
        claimed=[
            (ticket.asked.key, ticket.asked.resource_id, account_id)
            for ticket in firsts
            for account_id in ticket.accounts
        ],
    )
    # A lock that was waited for in vain is what failed, and not what would be asked next.
    claims = claiming.claims(behind=locked.answer)
    answers = {
        ticket.asked.key: claimed(claim) for ticket, claim in zip(firsts, claims, strict=True)
    }
    fresh = [ticket for ticket in firsts if answers[ticket.asked.key] is None]
    recorded = None
    if fresh:
        outcomes, recorded = _engine.run(
            organization_id=organization_id,
            commands=[ticket.command for ticket in fresh],
            origins=[ticket.origin for ticket in fresh],
            # One business time for what has none of its own: the latest of them.
            now=max(ticket.now for ticket in fresh),
            atomic=False,
            reach_internal=False,
            locked=locked,
        )
        for ticket, outcome in zip(fresh, outcomes, strict=True):
            answers[ticket.asked.key] = _decided(organization_id, ticket, outcome)
        _forced.record_forced(
            organization_id,
            [
                (outcome, ticket.actor, ticket.origin.request_id)
                for ticket, outcome in zip(fresh, outcomes, strict=True)
            ],
        )
        idempotency.refuse_many(
            organization_id,
            [
                (ticket.asked.key, outcome.refusal)
                for ticket, outcome in zip(fresh, outcomes, strict=True)
                if outcome.refusal is not None
            ],
        )
    return [
        of_key(ticket, first=by_key[ticket.asked.key], answer=answers[ticket.asked.key])
        for ticket in group
    ], recorded


def _decided(organization_id: UUID, ticket: Ticket, outcome: Outcome) -> Answer:
    if outcome.refusal is not None:
        return Answer(NOBODY, refusal=outcome.refusal)
    entry_id = outcome.entry_id or ticket.asked.resource_id
    if entry_id != ticket.asked.resource_id:
        # Its reference stood for an entry already: from now on the key stands for that one too.
        idempotency.answer_with(organization_id, ticket.asked.key, entry_id)
    return Answer(entry_id, outcome)
