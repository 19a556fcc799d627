"""Batches: frozen, released, written, marked as sent; what is in them, what the bank said."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, override
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts import roles
from apps.core.admin_base import (
    Act,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.payouts import operations
from apps.payouts.admin._open_batches import FreezeForm, freeze_is_off, open_batches_table
from apps.payouts.models import BankFact, PayoutAttempt, PayoutBatch
from apps.payouts.states import BatchState

ATTEMPTS_SHOWN = 200
ANSWERS_SHOWN = 50
VOID = "payouts.void_batch"


def payout_link(payout_id: UUID) -> SafeString:
    """Link to a payout."""
    return cells.row_link("payouts_payout", "po", payout_id)


def _in_state(*states: BatchState) -> Any:  # noqa: ANN401  (the form of `Act.off`)
    def off(batch: PayoutBatch, _user: Any) -> str:  # noqa: ANN401
        if batch.state in states:
            return ""
        wanted = " or ".join(state.value for state in states)
        return f"It is {batch.state.replace('_', ' ')}; this needs one that is {wanted}."

    return off


def _void_is_off(batch: PayoutBatch, user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    if batch.state == BatchState.VOIDED:
        return "It is voided already."
    if batch.state not in {BatchState.FROZEN, BatchState.RELEASED}:
        return "It has a file: somebody may have downloaded it, or the bank may have it."
    if not roles.may_decide(VOID, roles=user.role_names(), is_verified=user.is_verified):
        return "It is for a finance approver."
    return ""


def _batch_words(words: str) -> Any:  # noqa: ANN401  (the form of `Act.label`)
    return lambda batch: words.format(format_minor(batch.total_minor, batch.currency))


def _step(
    *,
    name: str,
    capability: str,
    operation: Callable[..., PayoutBatch],
    words: str,
    states: Sequence[BatchState],
    done: Callable[[PayoutBatch], str],
    presets: tuple[str, ...] = (),
    note: str = "",
) -> Act:
    """Return an act that takes a batch of these states one step on; its button always shows."""
    return Act(
        name=name,
        capability=capability,
        operation=operation,
        subject="batch_id",
        label=_batch_words(words),
        off=_in_state(*states),
        done=done,
        presets=presets,
        is_always_shown=True,
        note=note,
    )


@admin.register(PayoutBatch)
class PayoutBatchAdmin(RecordAdmin[PayoutBatch]):
    """Attempts that leave in one file."""

    view_capability = "payouts.view_payout"
    prefix = "pb"
    aggregate_type = "payout_batch"
    title = "Batches"
    intro = "What leaves together: frozen at the cut-off, written once, answered by the bank."
    empty = "No batch was frozen yet; payouts scheduled for a day join one at its cut-off."
    search_hint = "pb_… or the message id in the file"
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = (
        "id",
        "execution_date",
        "account",
        "rail",
        "payouts",
        "total_minor",
        "state",
        "message",
        "frozen_at",
    )
    facts = (
        "id",
        "execution_date",
        "account",
        "rail",
        "payouts",
        "total_minor",
        "message",
        "payment_information_id",
        "file_cell",
        "hash_cell",
        "frozen_at",
        "exported_at",
        "send_started_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", BatchState.choices),
        lists.exact("currency", "Currency", placeholder="EUR"),
    )
    acts = (
        Act(
            name="freeze",
            capability="payouts.freeze_batch",
            operation=operations.freeze_batch,
            form=FreezeForm,
            label=lambda _none: "Freeze a batch now",
            off=freeze_is_off,
            done=lambda batch: (
                f"Frozen: {batch.attempt_count} payouts." if batch else "None was fit to go."
            ),
            on_list=True,
            note="Nothing joins or leaves a batch once it is frozen. Its file is written next.",
        ),
        _step(
            name="release",
            capability="payouts.release_batch",
            operation=operations.release_batch,
            words="Release {}",
            states=(BatchState.FROZEN,),
            done=lambda batch: f"It is {batch.state} now.",
        ),
        _step(
            name="export",
            capability="payouts.export_batch",
            operation=operations.export_batch,
            words="Write the file of {}",
            states=(BatchState.RELEASED,),
            done=lambda batch: f"Written and checked; it is {batch.state} now.",
        ),
        _step(
            name="sent",
            capability="payouts.mark_batch_sent",
            operation=operations.mark_batch_sent,
            words="Mark {} as sent",
            states=(BatchState.EXPORTED, BatchState.UNKNOWN),
            done=lambda batch: f"It is {batch.state} now; the bank's answer decides the rest.",
            presets=("Uploaded in the bank's portal.",),
            note="Only when the bank has the file. From here on no payout in it can be canceled.",
        ),
        Act(
            name="void",
            capability=VOID,
            operation=operations.void_batch,
            subject="batch_id",
            label=_batch_words("Void {}"),
            off=_void_is_off,
            done=lambda _batch: "Voided; its payouts are scheduled again.",
            is_dangerous=True,
            note="Only as long as it has no file, which somebody could have sent.",
        ),
    )

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[PayoutBatch], text: str
    ) -> QuerySet[PayoutBatch]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(message_id=text)

    @override
    def headline(self, obj: PayoutBatch) -> str:
        return f"Batch of {format_minor(obj.total_minor, obj.currency)}"

    @shown("From")
    def account(self, obj: PayoutBatch) -> SafeString:
        url = reverse(
            "admin:banking_bankaccount_change", args=[encode_id("ba", obj.bank_account_id)]
        )
        return cells.link(url, obj.bank_account)

    @shown(align="end")
    def payouts(self, obj: PayoutBatch) -> SafeString:
        return cells.number(obj.attempt_count)

    @shown("Message id")
    def message(self, obj: PayoutBatch) -> SafeString:
        return cells.cut(obj.message_id)

    @shown("File")
    def file_cell(self, obj: PayoutBatch) -> SafeString:
        return cells.row_link("banking_bankfile", "bf", obj.file_id)

    @shown("SHA-256 of the file")
    def hash_cell(self, obj: PayoutBatch) -> SafeString:
        return cells.cut(bytes(obj.file_sha256).hex()) if obj.file_sha256 else cells.NONE

    @override
    def list_extra(self, request: HttpRequest) -> dict[str, Any]:
        freeze = next(act for act in self.acts if act.name == "freeze")
        table = open_batches_table(request, form_url=self.act_url(freeze, None))
        return {"tables_before": [table] if table else []}

    @override
    def get_tables(self, request: HttpRequest, obj: PayoutBatch) -> list[Table]:
        attempts = PayoutAttempt.objects.filter(
            organization_id=obj.organization_id, batch_id=obj.id
        ).order_by("number_in_file")[:ATTEMPTS_SHOWN]
        facts = BankFact.objects.filter(
            organization_id=obj.organization_id, batch_id=obj.id
        ).order_by("-id")
        answers = _answers_table(obj, facts[:ANSWERS_SHOWN])
        if facts[ANSWERS_SHOWN : ANSWERS_SHOWN + 1]:
            answers.note = f"The newest {ANSWERS_SHOWN}."
        return [_batch_attempts_table(obj, attempts), answers]


def _batch_attempts_table(batch: PayoutBatch, attempts: Iterable[PayoutAttempt]) -> Table:
    return Table(
        "What is in it",
        (">No.", "Payout", "End-to-end id", "State", "Bank says", ">Amount"),
        [
            [
                cells.number(one.number_in_file),
                payout_link(one.payout_id),
                cells.code(one.end_to_end_id),
                cells.state(one.state),
                cells.code(" ".join(filter(None, (one.bank_status, one.reason_code)))),
                cells.amount(one.amount_minor, one.currency),
            ]
            for one in attempts
        ],
        totals=["", "", "", "", "Sum", cells.amount(batch.total_minor, batch.currency)],
        note=f"The first {ATTEMPTS_SHOWN}." if batch.attempt_count > ATTEMPTS_SHOWN else "",
        more_url=f"{reverse('admin:payouts_payout_changelist')}?batch={batch.id}",
        more_label="Every payout in it",
    )


def _answers_table(batch: PayoutBatch, facts: Iterable[BankFact]) -> Table:
    return Table(
        "What the bank said",
        ("When", "Kind", "About", "Status", "Reason", "What became of it"),
        [
            [
                cells.instant(fact.recorded_at, zone=zone_of(batch)),
                cells.text(fact.kind),
                cells.code(fact.end_to_end_id or "the whole file"),
                cells.code(fact.bank_status),
                cells.text(f"{fact.reason_code} {fact.reason_text}".strip()),
                cells.state(fact.state),
            ]
            for fact in facts
        ],
        empty="The bank has not answered yet.",
    )
