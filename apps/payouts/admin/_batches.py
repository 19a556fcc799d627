"""Batches: frozen, released, written, marked as sent; what is in them, what the bank said."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, override
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.accounts.queries import for_staff
from apps.core.admin_base import (
    Act,
    ActForm,
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
from apps.payouts import operations, queries
from apps.payouts.models import BankFact, PayoutAttempt, PayoutBatch
from apps.payouts.queries import OpenBatch
from apps.payouts.states import BatchState

ATTEMPTS_SHOWN = 200


def payout_link(payout_id: UUID) -> SafeString:
    """Link to a payout."""
    return cells.row_link("payouts_payout", "po", payout_id)


class FreezeForm(ActForm):
    """Which of the open batches is frozen."""

    batch = forms.ChoiceField(help_text="What is scheduled for one account, rail and day.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.open = open_batches(self.user)
        field = self.fields["batch"]
        field.choices = [(_key_text(one), _open_words(one)) for one in self.open]  # type: ignore[attr-defined]  # a choice field

    @override
    def arguments(self) -> dict[str, Any]:
        chosen = self.cleaned_data["batch"]
        return {"key": next(one.key for one in self.open if _key_text(one) == chosen)}


def open_batches(user: Any) -> list[OpenBatch]:  # noqa: ANN401  (the signed-in person)
    """Return what would be frozen now, in the organizations this person may see."""
    seen = for_staff(Organization.objects.order_by("id"), user)[:20]
    return [
        one
        for organization in seen
        for one in queries.preview_batches(organization_id=organization.id)
    ]


def _key_text(one: OpenBatch) -> str:
    key = one.key
    return f"{key.bank_account_id}/{key.currency}/{key.rail}/{key.execution_date}"


def _open_words(one: OpenBatch) -> str:
    total = format_minor(one.total_minor, one.key.currency)
    return f"{one.key.execution_date:%d %b %Y} · {one.key.rail} · {one.count} payouts · {total}"


def _in_state(*states: BatchState) -> Any:  # noqa: ANN401  (the form of `Act.off`)
    def off(batch: PayoutBatch, _user: Any) -> str:  # noqa: ANN401
        if batch.state in states:
            return ""
        wanted = " or ".join(state.value for state in states)
        return f"It is {batch.state.replace('_', ' ')}; this needs one that is {wanted}."

    return off


def _batch_words(verb: str) -> Any:  # noqa: ANN401  (the form of `Act.label`)
    return lambda batch: f"{verb} {format_minor(batch.total_minor, batch.currency)}"


def _step(
    *,
    name: str,
    capability: str,
    operation: Callable[..., PayoutBatch],
    verb: str,
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
        label=_batch_words(verb),
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
            off=lambda _none, user: "" if open_batches(user) else "Nothing is scheduled.",
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
            verb="Release",
            states=(BatchState.FROZEN,),
            done=lambda batch: f"It is {batch.state} now.",
        ),
        _step(
            name="export",
            capability="payouts.export_batch",
            operation=operations.export_batch,
            verb="Write the file of",
            states=(BatchState.RELEASED,),
            done=lambda batch: f"Written and checked; it is {batch.state} now.",
        ),
        _step(
            name="sent",
            capability="payouts.mark_batch_sent",
            operation=operations.mark_batch_sent,
            verb="Mark as sent:",
            states=(BatchState.EXPORTED, BatchState.UNKNOWN),
            done=lambda batch: f"It is {batch.state} now; the bank's answer decides the rest.",
            presets=("Uploaded in the bank's portal.",),
            note="Only when the bank has the file. From here on no payout in it can be canceled.",
        ),
        Act(
            name="void",
            capability="payouts.void_batch",
            operation=operations.void_batch,
            subject="batch_id",
            label=_batch_words("Void"),
            off=_in_state(BatchState.FROZEN, BatchState.RELEASED, BatchState.EXPORTED),
            done=lambda _batch: "Voided; its payouts are scheduled again.",
            is_dangerous=True,
            note="Only when it is certain that the bank does not have the file.",
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
        scheduled = open_batches(request.user)
        table = Table(
            "Not frozen yet",
            ("Leaves on", "Rail", ">Payouts", ">Sum"),
            [
                [
                    cells.day(one.key.execution_date),
                    cells.text(one.key.rail),
                    cells.number(one.count),
                    cells.amount(one.total_minor, one.key.currency),
                ]
                for one in scheduled
            ],
            note="What would be in a batch if it were frozen now.",
        )
        return {"tables_before": [table] if scheduled else []}

    @override
    def get_tables(self, request: HttpRequest, obj: PayoutBatch) -> list[Table]:
        attempts = PayoutAttempt.objects.filter(
            organization_id=obj.organization_id, batch_id=obj.id
        ).order_by("number_in_file")[:ATTEMPTS_SHOWN]
        facts = BankFact.objects.filter(
            organization_id=obj.organization_id, batch_id=obj.id
        ).order_by("-id")[:20]
        return [_batch_attempts_table(obj, attempts), _answers_table(obj, facts)]


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
