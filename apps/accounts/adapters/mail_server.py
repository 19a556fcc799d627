"""
The mail server, through Django's e-mail backend, as the settings name it.

An answer to the recipient or to the message is the server's word: 5xx is final, anything else may
be tried again. So may what broke off: the Message-ID is the same each time, by which mail programs
know a message they have.
"""

import smtplib
from contextlib import suppress
from datetime import datetime
from email.utils import format_datetime, parseaddr
from typing import Any, Final
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from apps.core.errors import Declined, OutcomeUnknown, Unavailable
from apps.core.ids import encode_id

_FINAL_FROM: Final = 500


def send(*, mail_id: UUID, to: str, subject: str, body: str, written_at: datetime) -> None:
    """
    Hand one message over to the mail server.

    What is raised says why by a code and never repeats the address.

    :raises Declined: if the server refuses this recipient, or this message, for good
    :raises Unavailable: if it took nothing, and may do so later
    :raises OutcomeUnknown: if it did not say whether it took the message
    """
    message = EmailMessage(
        subject,
        body,
        settings.DEFAULT_FROM_EMAIL,
        [to],
        headers={
            "Message-ID": message_id(mail_id),
            "Date": format_datetime(written_at),
            # RFC 3834: nobody's out-of-office answers it.
            "Auto-Submitted": "auto-generated",
        },
    )
    server = get_connection()
    try:
        _open(server)
        _hand_over(server, message)
    # Each answer has a timeout of its own; one that drips through all of them meets the task's.
    except SoftTimeLimitExceeded:
        _hang_up(server)
        raise OutcomeUnknown("too_slow") from None
    finally:
        _part(server)


def message_id(mail_id: UUID) -> str:
    """Return the Message-ID of a mail, the same at every attempt."""
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return f"<{encode_id('mail', mail_id)}@{domain}>"


# What smtplib raises is an OSError, as is what the network does; its words hold addresses.
def _open(server: Any) -> None:  # noqa: ANN401  (a backend; Django's stubs give no common type)
    try:
        server.open()
    except smtplib.SMTPResponseException as refused:
        raise Unavailable(f"smtp_{refused.smtp_code}") from None
    except OSError as fault:
        _hang_up(server)
        raise Unavailable(type(fault).__name__) from None


def _hand_over(server: Any, message: EmailMessage) -> None:  # noqa: ANN401  (likewise)
    try:
        server.send_messages([message])
    except smtplib.SMTPRecipientsRefused as refused:
        [(code, _words)] = refused.recipients.values()
        raise _refusal(code) from None
    except smtplib.SMTPDataError as refused:
        raise _refusal(refused.smtp_code) from None
    # Of our sender or our session, which says nothing about this message.
    except smtplib.SMTPResponseException as refused:
        raise Unavailable(f"smtp_{refused.smtp_code}") from None
    except OSError as fault:
        _hang_up(server)
        raise OutcomeUnknown(type(fault).__name__) from None


def _hang_up(server: Any) -> None:  # noqa: ANN401  (likewise)
    """Close the connection, if there is one, without a word, since its answer may never come."""
    connection = getattr(server, "connection", None)
    if connection is not None:
        connection.close()


def _part(server: Any) -> None:  # noqa: ANN401  (likewise)
    """Take leave. What came of the message is known, or will not be: a bad parting is no matter."""
    connection = getattr(server, "connection", None)
    with suppress(OSError, SoftTimeLimitExceeded):
        server.close()
    # Cut off, it would stay open.
    if connection is not None:
        connection.close()


def _refusal(code: int) -> Declined | Unavailable:
    if code >= _FINAL_FROM:
        return Declined("The mail server refuses it.", code=f"smtp_{code}")
    return Unavailable(f"smtp_{code}")
