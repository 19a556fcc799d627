"""Celery entry of payouts: freeze due batches, write and send their files, let cooldowns end."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from apps.banking import adapters
from apps.banking import queries as banking
from apps.banking import tasks as banking_tasks
from apps.banking.adapters.port import SendOutcome as Channeled
from apps.core import clock, findings, jobs, work, working
from apps.core.actors import Actor
from apps.core.errors import Declined, OutcomeUnknown, Unavailable
from apps.core.working import Record, Worker
from apps.payouts import operations, queries
from apps.payouts.models import BatchWork
from apps.payouts.operations import Sending, SendOutcome
from apps.payouts.rules import CutOff, is_freeze_due
from apps.payouts.states import BatchState

log = structlog.get_logger("kassa.payouts")

ACTOR: Final = Actor.job("payouts")
FREEZE: Final = Actor.job("payouts.freeze")
_BATCHES_A_RUN: Final = 4
# A step that begins just before the task's end has three times the channel's patience.
_HARD_SECONDS: Final = 37
_ASK_AGAIN_SECONDS: Final = (3600, 86_400)
_LOOK_AGAIN_SECONDS: Final = (3, 5, 10, 30)
# Where one of these is found to be wrong, no file leaves (ADR 0173).
_MONEY: Final = ("banking", "ledger", "payments", "payouts", "reconciliation")
_BROKEN_SECONDS: Final = 60


def register() -> None:
    """Register the jobs; called when the app is ready."""
    minute = jobs.Every(minutes=1)
    jobs.declare(kind="payouts.freeze", schedule=minute, steps=freeze_due)
    jobs.declare(kind="payouts.end_cooldowns", schedule=minute, steps=end_cooldowns)


# --- Jobs ---------------------------------------------------------------------------------------


def freeze_due(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Freeze every batch whose cut-off is over; what is done is not scheduled any more."""
    # The latest day that can be due anywhere on earth: zones are ahead of UTC by 14 h at most.
    keys = queries.list_batch_keys(until=(now + timedelta(hours=14)).date())
    for own, key in sorted((_place_of(key), key) for key in keys):
        # One that could not be frozen is still there, and was tried in this run.
        if own <= place:
            continue
        account = banking.get_bank_account(
            organization_id=key.organization_id, bank_account_id=key.bank_account_id
        )
        cut_off = CutOff(at=account.cut_off, zone=account.zone)
        if is_freeze_due(execution_day=key.execution_date, now=now, cut_off=cut_off):
            # More than fit into one file make another. Up to the last, the key is still to be done.
            while _freeze(key, now=now):
                yield place
        place = own
        yield place


def _place_of(key: queries.BatchKey) -> str:
    """Return a key's place in the order in which keys are frozen: the oldest day first."""
    account = f"{key.organization_id} {key.bank_account_id}"
    return f"{key.execution_date.isoformat()} {account} {key.currency} {key.rail}"


def _freeze(key: queries.BatchKey, *, now: datetime) -> bool:
    """Freeze one batch of the key's payouts; false if there was none fit to go."""
    try:
        return operations.freeze_batch(key=key, actor=FREEZE, now=now) is not None
    except working.OutOfTime:
        raise
    # The boundary: the oldest day comes first, each minute, and must not keep everybody else's
    # money from leaving. The log line pages.
    except Exception:
        log.exception(
            "payouts_not_frozen",
            organization_id=str(key.organization_id),
            execution_date=key.execution_date.isoformat(),
        )
        return False


def end_cooldowns(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Let held payouts go on whose cooldown is over."""
    for payout in queries.list_cooled_down(now=now):
        # One that cannot go on is still there, and was tried in this run.
        own = f"{payout.available_at:%Y-%m-%dT%H:%M:%S.%f} {payout.id}"
        if own <= place:
            continue
        try:
            operations.end_cooldown(
                organization_id=payout.organization_id, payout_id=payout.id, now=now
            )
        except working.OutOfTime:
            raise
        # The boundary: one payout that cannot go on stays held and holds up no other.
        except Exception:
            log.exception("payout_cooldown_not_ended", payout_id=str(payout.id))
        yield own


# --- Batches ------------------------------------------------------------------------------------


def _export(row: BatchWork) -> None:
    batch = operations.release_batch(
        organization_id=row.organization_id, batch_id=row.batch_id, actor=ACTOR, now=clock.now()
    )
    # A batch that waits for people gets its row back when they agree.
    if batch.state == BatchState.RELEASED:
        operations.export_batch(
            organization_id=row.organization_id,
            batch_id=row.batch_id,
            actor=ACTOR,
            now=clock.now(),
        )


def _send(row: BatchWork) -> Record[BatchWork] | None:
    batch = queries.get_batch(organization_id=row.organization_id, batch_id=row.batch_id)
    # Only before anything says that the file may have left: what was begun goes on to be resolved.
    is_new = batch.state == BatchState.EXPORTED and batch.send_started_at is None
    broken = findings.list_broken(of_apps=_MONEY) if is_new else []
    if broken:
        log.error("payouts_frozen", batch_id=str(row.batch_id), names=broken)
        return partial(work.mark_waiting, error_code="books_broken", delay_seconds=_BROKEN_SECONDS)
    sending = operations.begin_send(
        organization_id=row.organization_id, batch_id=row.batch_id, actor=ACTOR, now=clock.now()
    )
    if sending is None:
        return None
    outcome, record = _call(row, sending)
    operations.record_send(
        organization_id=row.organization_id,
        batch_id=row.batch_id,
        outcome=outcome,
        actor=ACTOR,
        now=clock.now(),
    )
    return record


def _call(row: BatchWork, sending: Sending) -> tuple[SendOutcome, Record[BatchWork] | None]:
    """Hand the stored bytes to the channel, no transaction open; return what became of them."""
    channel = adapters.channel_for(
        organization_id=row.organization_id, bank_account_id=sending.bank_account_id
    )
    content = banking.get_bank_file_content(
        organization_id=row.organization_id, bank_file_id=sending.bank_file_id
    )
    try:
        said = channel.send(name=f"{sending.message_id}.xml", content=content)
    except Unavailable:
        return SendOutcome.NOT_SENT, partial(work.mark_retry, error_code="bank_unavailable")
    except Declined as declined:
        # The bank does not have it and will not take it: a person looks at why.
        log.warning("payout_file_declined", batch_id=str(row.batch_id), code=declined.code)
        return SendOutcome.NOT_SENT, partial(work.mark_failed, error_code="bank_declined")
    except OutcomeUnknown:
        return SendOutcome.UNKNOWN, None
    return (SendOutcome.ACCEPTED if said is Channeled.SENT else SendOutcome.NOT_SENT), None


def _ask(row: BatchWork) -> Record[BatchWork] | None:
    """Ask the bank whether it has a file of which nobody knows; its yes is a fact, its no is not.

    That it has nothing is for two people to say: an answer may be about a message still on its way.
    """
    batch = queries.get_batch(organization_id=row.organization_id, batch_id=row.batch_id)
    if batch.state != BatchState.UNKNOWN:
        return None
    channel = adapters.channel_for(
        organization_id=row.organization_id, bank_account_id=batch.bank_account_id
    )
    try:
        has_it = channel.status(message_id=batch.message_id)
    except (Unavailable, OutcomeUnknown):
        has_it = None
    if has_it:
        operations.record_send(
            organization_id=row.organization_id,
            batch_id=row.batch_id,
            outcome=SendOutcome.ACCEPTED,
            actor=ACTOR,
            now=clock.now(),
        )
        return None
    delay = _ASK_AGAIN_SECONDS[min(row.attempts, len(_ASK_AGAIN_SECONDS)) - 1]
    return partial(work.mark_retry, error_code="outcome_unknown", delay_seconds=delay)


def _fetch(row: BatchWork) -> Record[BatchWork] | None:
    """Look for the bank's answer soon after a send; the job of banking looks every minute."""
    batch = queries.get_batch(organization_id=row.organization_id, batch_id=row.batch_id)
    account = banking.get_bank_account(
        organization_id=row.organization_id, bank_account_id=batch.bank_account_id
    )
    with contextlib.suppress(Unavailable, OutcomeUnknown):
        banking_tasks.fetch_files(
            organization_id=row.organization_id,
            connection_id=account.connection_id,
            now=clock.now(),
        )
    if row.attempts > len(_LOOK_AGAIN_SECONDS):
        return None
    delay = _LOOK_AGAIN_SECONDS[row.attempts - 1]
    return partial(work.mark_retry, error_code="no_answer_yet", delay_seconds=delay)


_STEPS: Final[dict[str, Callable[[BatchWork], Record[BatchWork] | None]]] = {
    "export": _export,
    "send": _send,
    "status": _ask,
    "fetch": _fetch,
}


work_batches: Final = working.register(
    Worker(
        kind=operations.WORK_KIND,
        model=BatchWork,
        task="payouts.work_batches",
        queue="money",
        hard_seconds=_HARD_SECONDS,
        batch=_BATCHES_A_RUN,
        seconds_max=working.LONG_ROWS_SECONDS_MAX,
        perform=lambda row: _STEPS[row.step](row),
    )
)
