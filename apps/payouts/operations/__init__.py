"""Writes of payouts, one module per verb. What other apps and interfaces call is listed here."""

from apps.payouts.operations._line_locks import lock_for_bank_lines
from apps.payouts.operations._moves import WORK_KIND
from apps.payouts.operations._progress import SEND_POLICY, register_send_act
from apps.payouts.operations.destinations import (
    DestinationDetails,
    create_destination,
    disable_destination,
)
from apps.payouts.operations.exporting import (
    RELEASE_ACT,
    export_batch,
    register_release_act,
    release_batch,
    write_file,
)
from apps.payouts.operations.freezing import freeze_batch
from apps.payouts.operations.holding import (
    cancel_payout,
    end_cooldown,
    release_payout,
    set_price,
)
from apps.payouts.operations.lines import (
    return_from_bank_line,
    settle_from_bank_line,
)
from apps.payouts.operations.reports import ReportResult, apply_status_report
from apps.payouts.operations.requests import PayoutDetails, request_payout
from apps.payouts.operations.sending import (
    Sending,
    SendOutcome,
    begin_send,
    mark_batch_sent,
    record_send,
    void_batch,
)

__all__ = [
    "RELEASE_ACT",
    "SEND_POLICY",
    "WORK_KIND",
    "DestinationDetails",
    "PayoutDetails",
    "ReportResult",
    "SendOutcome",
    "Sending",
    "apply_status_report",
    "begin_send",
    "cancel_payout",
    "create_destination",
    "disable_destination",
    "end_cooldown",
    "export_batch",
    "freeze_batch",
    "lock_for_bank_lines",
    "mark_batch_sent",
    "record_send",
    "register_release_act",
    "register_send_act",
    "release_batch",
    "release_payout",
    "request_payout",
    "return_from_bank_line",
    "set_price",
    "settle_from_bank_line",
    "void_batch",
    "write_file",
]
