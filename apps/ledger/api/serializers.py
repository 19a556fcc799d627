"""Shapes of the ledger's requests and answers. Amounts are minor units."""

from datetime import datetime
from typing import Any, ClassVar, Final, override

from rest_framework import serializers

from apps.core.api.fields import (
    AmountField,
    CodeField,
    CurrencyField,
    IdField,
    InstantField,
    IntegerField,
    MetadataField,
    TextField,
    TruthField,
)
from apps.core.api.shapes import StrictSerializer
from apps.ledger.rules import AccountStatus, AccountType
from apps.ledger.rules.months import YEAR_MAX, YEAR_MIN

BATCH_MAX: Final = 10_000
DRY_RUN: Final = "Say what would happen, and do nothing: no key is needed, and none is used."
FORCE: Final = "history:write"
FORCED: Final = (
    "Dated in the past, it may take a balance of then below its floor, never one from now on."
    f" Needs the scope {FORCE}."
)
_FLOOR_MAX: Final = 10**13


class EffectiveField(InstantField):
    """Business time."""

    default_error_messages: ClassVar = {
        "range": f"An effective time is of the years {YEAR_MIN} to {YEAR_MAX}."
    }

    @override
    def to_internal_value(self, data: Any) -> datetime:
        instant = super().to_internal_value(data)
        if not YEAR_MIN <= instant.year <= YEAR_MAX:
            self.fail("range")
        return instant


class OpenLedgerAccount(StrictSerializer):
    code = TextField(
        200,
        pattern=r"[a-z0-9][a-z0-9_]*(:[a-z0-9][a-z0-9_]*)*(:[A-Z]{3})?",
        help_text="A path such as wallets:w_1:EUR.",
    )
    type = CodeField([kind.value for kind in AccountType])
    currency = CurrencyField()
    min_available = IntegerField(
        least=-_FLOOR_MAX, most=0, required=False, allow_null=True, default=0,
        help_text="The floor of available; null is none, negative a credit line.",
    )  # fmt: skip
    metadata = MetadataField()


class BranchField(TextField):
    """A branch of the tree of codes: its first account's code, with or without a colon behind."""

    def __init__(self) -> None:
        super().__init__(200, required=False, pattern="[^:].*")


class AskLedgerAccounts(StrictSerializer):
    code = TextField(200, required=False)
    code_prefix = BranchField()
    type = CodeField([kind.value for kind in AccountType], required=False)
    currency = CurrencyField(required=False)
    status = CodeField([status.value for status in AccountStatus], required=False)


class LedgerAccount(StrictSerializer):
    id = IdField("la", source="account_id")
    code = serializers.CharField()
    type = serializers.CharField()
    currency = serializers.CharField()
    status = serializers.CharField()
    min_available = serializers.IntegerField(source="min_available_minor", allow_null=True)
    posted = serializers.IntegerField(
        help_text="On the account's normal side; what is dated later is in it."
    )
    pending_out = serializers.IntegerField(
        help_text="What open holds reserve of its money. One that expired is not in it, whether or"
        " not it was swept."
    )
    pending_in = serializers.IntegerField(
        help_text="What open holds reserve for it: not spendable before it is captured. GET"
        " /v1/holds lists them, by ledger_account and direction=in."
    )
    available = serializers.IntegerField(
        help_text="posted less pending_out. What came in and is dated later is in it, and leaves no"
        " earlier than that."
    )
    version = serializers.IntegerField(help_text="How many postings there were.")
    metadata = MetadataField()
    created_at = InstantField()


class Hold(StrictSerializer):
    id = IdField("ho")
    debit_account = IdField("la", source="debit_account_id")
    credit_account = IdField("la", source="credit_account_id")
    amount = serializers.IntegerField(source="amount_minor")
    currency = serializers.CharField()
    captured = serializers.IntegerField(source="captured_minor")
    remaining = serializers.IntegerField(
        source="remaining_minor", help_text="What it still reserves; 0 once it has ended."
    )
    status = serializers.CharField(help_text="open, captured, voided or expired")
    multi_capture = serializers.BooleanField()
    reference = serializers.CharField(allow_null=True)
    expires_at = InstantField(allow_null=True)
    created_at = InstantField()
    metadata = MetadataField()


class HoldEvent(StrictSerializer):
    kind = serializers.CharField(help_text="placed, captured, voided or expired")
    amount = serializers.IntegerField(source="amount_minor")
    journal_entry = IdField(
        "je", source="entry_id", allow_null=True, help_text="What a capture posted."
    )
    created_at = InstantField(source="recorded_at")


class HoldWithEvents(Hold):
    events = HoldEvent(
        many=True,
        required=False,
        help_text="With expand[]=events: up to 1000, oldest first.",
    )
    has_more_events = serializers.BooleanField(required=False)


class LedgerAccountWithHolds(LedgerAccount):
    holds = Hold(many=True, required=False, help_text="With expand[]=holds: up to 1000.")
    has_more_holds = serializers.BooleanField(required=False)


class ChangeLedgerAccount(StrictSerializer):
    min_available = IntegerField(
        least=-_FLOOR_MAX, most=_FLOOR_MAX, required=False, allow_null=True,
        help_text="The floor of available; null is none, negative a credit line.",
    )  # fmt: skip
    status = CodeField(
        [status.value for status in AccountStatus], required=False,
        help_text="To a frozen account nothing new is posted, and no hold is placed on it; what was"
        " held before may still be captured.",
    )  # fmt: skip
    metadata = MetadataField(help_text="In place of all it has; an empty object takes all away.")
    reason = TextField(500, help_text="Goes to the audit trail.")


class _Transfer(StrictSerializer):
    debit_account = IdField("la", source="debit_account_id", help_text="Where the debit goes.")
    credit_account = IdField("la", source="credit_account_id", help_text="Where the credit goes.")
    amount = AmountField(source="amount_minor")
    currency = CurrencyField()
    reference = TextField(255, required=False)
    description = TextField(500, required=False, allow_blank=True)
    effective_at = EffectiveField(required=False, help_text="Business time; now without it.")
    metadata = MetadataField()
    up_to = TruthField(
        required=False,
        help_text="As much of the amount as the floors allow. Where a later balance allows nothing,"
        " the refusal names as `requested` what today's would have let go.",
    )
    force = TruthField(required=False, help_text=FORCED)


class PostTransfer(_Transfer):
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class BatchedTransfer(_Transfer):
    linked = TruthField(
        required=False, help_text="Succeeds or fails with the next one: the last one has none."
    )


class PostTransfers(StrictSerializer):
    mode = CodeField(["atomic", "independent"], required=False, default="atomic")
    dry_run = TruthField(required=False, help_text=DRY_RUN)
    transfers = BatchedTransfer(
        many=True,
        allow_empty=False,
        max_length=BATCH_MAX,  # type: ignore[call-arg]  # the list's, which `many` makes of it
    )


class TransferBalance(StrictSerializer):
    ledger_account = IdField("la", source="id")
    version = serializers.IntegerField()
    posted = serializers.IntegerField()
    available = serializers.IntegerField(
        help_text="A hold that expired is taken off until it is swept, in a minute or so: the"
        " account's own balance has it free at once, and so has who needs it."
    )


class Transfer(StrictSerializer):
    id = IdField("je", allow_null=True, help_text="null in a dry run.")
    debit_account = IdField("la")
    credit_account = IdField("la")
    amount = serializers.IntegerField(help_text="What was moved; of an up_to, what could be.")
    currency = serializers.CharField()
    reference = serializers.CharField(allow_null=True)
    description = serializers.CharField()
    effective_at = InstantField()
    created_at = InstantField(allow_null=True, help_text="null where a dry run would make it.")
    metadata = MetadataField()
    balances = TransferBalance(many=True, help_text="Right after it; in a replay, now.")
    dry_run = serializers.BooleanField()


class BatchOutcome(StrictSerializer):
    status = serializers.CharField(
        help_text="posted or refused; posted too where one stood under its reference already, whose"
        " id and amount these are then: nothing moved again."
    )
    transfer = IdField("je", allow_null=True)
    amount = serializers.IntegerField(allow_null=True, help_text="What was moved.")
    code = serializers.CharField(allow_null=True)
    detail = serializers.CharField(allow_null=True)
    details = serializers.DictField(allow_null=True, help_text="Ids and numbers that help.")


class TransferBatch(StrictSerializer):
    id = IdField("tb", allow_null=True, help_text="null in a dry run.")
    posted = serializers.IntegerField()
    refused = serializers.IntegerField()
    outcomes = BatchOutcome(many=True)
    balances = TransferBalance(
        many=True, help_text="Each account it moved money on, after it; in a replay, now."
    )
    created_at = InstantField(allow_null=True, help_text="When it was asked; null in a dry run.")
    dry_run = serializers.BooleanField()


class ViewedPage(serializers.ListSerializer[Any]):
    """Prints a page of rows by one read of all that is shown of them."""

    @override
    def to_representation(self, data: Any) -> Any:
        return super().to_representation(self.context["view"](list(data)))


class ListedAccount(LedgerAccount):
    class Meta:
        list_serializer_class = ViewedPage
