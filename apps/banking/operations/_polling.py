"""When a bank is asked for files next."""

from datetime import timedelta
from typing import Final

from django.db.models.functions import Now

from apps.banking.models import BankAccount, BankConnection, ConnectionPoll
from apps.banking.states import Channel
from apps.core import transactions, work
from apps.core.ids import new_id
from apps.core.work import WorkState

POLLS_KIND: Final = "banking.polls"
# After a file left or came; then once a minute.
DELAYS_SECONDS: Final = (2, 2, 3, 5, 10, 30, 60)


def delay_seconds(quiet_polls: int) -> int:
    """Return how long to wait after so many polls that brought nothing."""
    return DELAYS_SECONDS[min(quiet_polls, len(DELAYS_SECONDS) - 1)]


def begin_polling(connection: BankConnection) -> None:
    """Ask a new connection from now on, where there is somebody to ask."""
    if connection.channel != Channel.MANUAL:
        ConnectionPoll.objects.create(
            id=new_id(), organization_id=connection.organization_id, connection_id=connection.id
        )


def expect_answers(account: BankAccount) -> None:
    """Ask the account's bank soon and often: a file of ours is about to reach it."""
    polls = ConnectionPoll.objects.filter(
        organization_id=account.organization_id, connection_id=account.connection_id
    )
    polls.update(quiet_polls=0)
    # One that is running now sets its next time itself, by what it finds in `quiet_polls`.
    polls.filter(state=WorkState.PENDING).update(
        next_attempt_at=Now() + timedelta(seconds=DELAYS_SECONDS[0])
    )


@transactions.required
def record_poll(poll: ConnectionPoll, *, files: int, error_code: str = "") -> None:
    """Record a locked poll that brought so many files, and set the next one."""
    poll.quiet_polls = 0 if files else poll.quiet_polls + 1
    poll.save(update_fields=["quiet_polls"])
    work.mark_retry(poll, error_code=error_code, delay_seconds=delay_seconds(poll.quiet_polls))


@transactions.required
def record_poll_unfinished(poll: ConnectionPoll) -> None:
    """Record a locked poll that stopped with more to fetch: the bank is asked on at once."""
    poll.quiet_polls = 0
    poll.save(update_fields=["quiet_polls"])
    work.mark_continued(poll)


def record_poll_failed(poll: ConnectionPoll, fault: Exception) -> None:
    """Record a locked poll that found the bank away, or met a fault: the bank is asked again."""
    record_poll(poll, files=0, error_code=type(fault).__name__[:64])
