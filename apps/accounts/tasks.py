"""Celery entry of accounts: e-mails that are owed to contacts, and those that had their time."""

from datetime import datetime
from functools import partial
from typing import Final

import structlog

from apps.accounts import operations, queries
from apps.accounts.adapters import mail_server
from apps.accounts.models import Mail
from apps.core import clock, failpoints, jobs, work, working
from apps.core.errors import Declined, OutsideCallError
from apps.core.failpoints import Failpoint
from apps.core.working import Record, Worker

log = structlog.get_logger(__name__)

_MAILS_A_RUN: Final = 5


def register() -> None:
    """Declare the app's job; called when the app is ready."""
    jobs.declare(kind="accounts.purge_mail", schedule=jobs.Every(minutes=60), run=purge_mail)


def purge_mail(_period: str, _now: datetime) -> None:
    """Remove mails that were kept for long enough."""
    operations.purge_mail()


def _send(mail: Mail) -> Record[Mail]:
    address = queries.find_address(mail)
    if address is None:
        return operations.record_unwanted
    try:
        mail_server.send(
            mail_id=mail.id,
            to=address,
            subject=mail.subject,
            body=mail.body,
            written_at=mail.created_at,
        )
    except Declined as refused:
        log.warning("mail_refused", mail_id=str(mail.id), error_code=refused.code)
        return partial(work.mark_failed, error_code=refused.code)
    failpoints.reach(Failpoint.MAIL_SENT)
    return partial(operations.record_sent, now=clock.now())


def _put_off(mail: Mail, fault: Exception) -> None:
    # The server's own fault says by a code what it was.
    code = str(fault) if isinstance(fault, OutsideCallError) else type(fault).__name__
    work.mark_retry(mail, error_code=code[:64])


SENDING: Final = Worker(
    kind=operations.MAIL_KIND,
    model=Mail,
    task="accounts.send_mail",
    queue="default",
    seconds_max=working.LONG_ROWS_SECONDS_MAX,
    batch=_MAILS_A_RUN,
    perform=_send,
    put_off=_put_off,
)
send_mail: Final = working.register(SENDING)
