"""The shapes of banking in the API. Account numbers are shown by their last four characters."""

from typing import Any, Final

from rest_framework import serializers

from apps.banking.states import (
    AccountState,
    Chain,
    Direction,
    FileState,
    LineState,
    Source,
    StatementState,
)
from apps.core.api.fields import (
    CodeField,
    CurrencyField,
    DayField,
    IdField,
    InstantField,
    IntegerField,
    TextField,
    TruthField,
)
from apps.core.api.shapes import StrictSerializer

BALANCE_MAX: Final = 10**18


def _signed(source: str) -> IntegerField:
    return IntegerField(least=-BALANCE_MAX, most=BALANCE_MAX, source=source, allow_null=True)


def _count(**more: Any) -> IntegerField:  # noqa: ANN401  (the framework's)
    return IntegerField(least=0, most=BALANCE_MAX, **more)


class BankAccount(StrictSerializer):
    id = IdField("ba")
    name = TextField(100)
    account_tail = TextField(4, source="identification_tail")
    currency = CurrencyField()
    state = CodeField(AccountState.values)
    created_at = InstantField()


class FileProblem(StrictSerializer):
    """One reason a file was refused: which statement, entry (from 1) and line of the file."""

    code = TextField(40)
    detail = TextField(1000)
    statement = TextField(64, allow_blank=True)
    entry = _count(allow_null=True)
    line = _count(allow_null=True)
    difference = IntegerField(
        least=-BALANCE_MAX, most=BALANCE_MAX, source="difference_minor", required=False
    )
    currency = CurrencyField(required=False)


class UploadBankFile(StrictSerializer):
    """The form: `file`, and `bank_account` if statements of any other account are to be refused."""

    file = serializers.FileField()
    bank_account = IdField("ba", required=False)


class BankFile(StrictSerializer):
    id = IdField("bf")
    name = TextField(200)
    direction = CodeField(Direction.values)
    kind = TextField(16, allow_blank=True)
    version = TextField(32, allow_blank=True)
    state = CodeField(FileState.values)
    reason_code = TextField(40, allow_blank=True)
    reason = TextField(1000, allow_blank=True)
    problems = FileProblem(many=True)
    warnings = FileProblem(many=True)
    created_at = InstantField()
    done_at = InstantField(allow_null=True)


class BankStatement(StrictSerializer):
    id = IdField("bst")
    bank_file = IdField("bf", source="bank_file_id")
    bank_account = IdField("ba", source="bank_account_id", allow_null=True)
    account_tail = TextField(4, source="identification_tail")
    source = CodeField(Source.values)  # type: ignore[assignment]  # a declared field leaves the class
    state = CodeField(StatementState.values)
    chain = CodeField(Chain.values)
    statement_id = TextField(64)
    sequence = TextField(32, allow_blank=True)
    currency = CurrencyField()
    opening_date = DayField(allow_null=True)
    opening_balance = _signed("opening_minor")
    closing_date = DayField(allow_null=True)
    closing_balance = _signed("closing_minor")
    lines = _count(source="line_count")
    new_lines = _count(source="new_line_count")
    created_at = InstantField()


class BankLine(StrictSerializer):
    id = IdField("bl")
    bank_account = IdField("ba", source="bank_account_id")
    statement = IdField("bst", source="statement_id")
    source = CodeField(Source.values)  # type: ignore[assignment]  # a declared field leaves the class
    state = CodeField(LineState.values, source="status_state")
    reason = TextField(40, source="status_reason", allow_blank=True)
    booking_date = DayField()
    value_date = DayField(allow_null=True)
    amount = _signed("amount_minor")
    currency = CurrencyField()
    is_return = TruthField()
    end_to_end_id = TextField(64, allow_blank=True)
    account_servicer_reference = TextField(64, source="account_servicer_ref", allow_blank=True)
    bank_code = TextField(80, allow_blank=True)
    counterparty_tail = TextField(4, allow_blank=True)
    creditor_references = serializers.ListField(child=TextField(140))
    occurrence = _count()
