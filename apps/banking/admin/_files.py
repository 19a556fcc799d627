"""Files that came from banks and went to them; a statement is imported by hand."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts.queries import for_staff
from apps.banking import operations
from apps.banking.admin._links import ROWS_SHOWN, statement_url
from apps.banking.models import BankAccount, BankFile, BankStatement
from apps.banking.states import Direction, FileState
from apps.core.admin_base import (
    Act,
    ActForm,
    Fact,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
)

KILO = 1024
FILE_BYTES_MAX = 50 * KILO * KILO


class ImportForm(ActForm):
    """A statement as the bank gave it."""

    bank_account = forms.ModelChoiceField(
        BankAccount.objects.none(), help_text="Whose statement it is; the file must say the same."
    )
    file = forms.FileField(help_text="camt.053 or camt.054, at most 50 MB.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        accounts = for_staff(BankAccount.objects.order_by("name", "id"), self.user)
        field: Any = self.fields["bank_account"]
        field.queryset = accounts.select_related("organization")
        # Many an organization calls its account the main one.
        field.label_from_instance = lambda one: f"{one}, {one.organization}"

    def clean_file(self) -> UploadedFile[bytes]:
        """Refuse what is too large to be a statement before it is read."""
        found: UploadedFile[bytes] = self.cleaned_data["file"]
        if (found.size or 0) > FILE_BYTES_MAX:
            raise forms.ValidationError("This file is larger than 50 MB.")
        return found

    @override
    def arguments(self) -> dict[str, Any]:
        account: BankAccount = self.cleaned_data["bank_account"]
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        return {
            "organization_id": account.organization_id,
            "bank_account_id": account.id,
            "name": str(file.name)[:200],
            "content": file.read(),
        }


def _imported(file: BankFile) -> str:
    if file.state == FileState.REFUSED:
        return f"Refused, nothing was imported: {file.reason}"
    return f"{file.name} is {file.state.replace('_', ' ')}."


@admin.register(BankFile)
class BankFileAdmin(RecordAdmin[BankFile]):
    """Files from a bank and to one: what became of each, and why."""

    view_capability = "banking.view_statement"
    prefix = "bf"
    title = "Bank files"
    intro = "A file is taken whole or refused whole. The same bytes again change nothing."
    empty = "No file has come or gone yet."
    search_hint = "bf_… or the message id in the file"
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = ("label", "way", "kind", "account", "state", "size", "created_at")
    facts = (
        "id",
        "way",
        "kind",
        "version",
        "message_id",
        "account",
        "size",
        "hash_cell",
        "created_at",
        "done_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("direction", [("in", "from the bank"), ("out", "to the bank")], title="Way"),
        lists.choice("state", FileState.choices),
    )
    acts = (
        Act(
            name="import",
            capability="banking.import_statement",
            operation=operations.import_bank_file,
            form=ImportForm,
            label=lambda _none: "Import a statement",
            done=_imported,
            is_bad=lambda file: file.state in {FileState.REFUSED, FileState.UNKNOWN_ACCOUNT},
            on_list=True,
            presets=("Downloaded from the bank's portal.",),
        ),
    )

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[BankFile]:
        # The content is large and sealed; no screen has a use for it.
        return super().get_queryset(request).defer("content_sealed")

    @override
    def find(self, request: HttpRequest, rows: QuerySet[BankFile], text: str) -> QuerySet[BankFile]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(message_id=text)

    @override
    def headline(self, obj: BankFile) -> str:
        return obj.name

    @shown("File")
    def label(self, obj: BankFile) -> SafeString:
        return cells.link(self.url_of(obj), obj.name)

    @shown("Way")
    def way(self, obj: BankFile) -> SafeString:
        return cells.text("from the bank" if obj.direction == Direction.IN else "to the bank")

    def account(self, obj: BankFile) -> SafeString:
        return cells.text(obj.bank_account)

    @shown(align="end")
    def size(self, obj: BankFile) -> SafeString:
        count = obj.byte_count
        words = f"{count:,}\u00a0bytes" if count < KILO else f"{count / KILO:,.1f}\u00a0kB"
        return cells.text(words)

    @shown("SHA-256")
    def hash_cell(self, obj: BankFile) -> SafeString:
        return cells.cut(bytes(obj.sha256).hex())

    @override
    def get_facts(self, request: HttpRequest, obj: BankFile) -> list[Fact]:
        shown_facts = super().get_facts(request, obj)
        if obj.reason_code:
            shown_facts.insert(0, Fact("Why", cells.free_text(obj.reason), wide=True))
            shown_facts.insert(1, Fact("Code", cells.code(obj.reason_code)))
        return shown_facts

    @override
    def get_tables(self, request: HttpRequest, obj: BankFile) -> list[Table]:
        statements = list(
            BankStatement.objects.filter(
                organization_id=obj.organization_id, bank_file_id=obj.id
            ).order_by("position")[: ROWS_SHOWN + 1]
        )
        tables = [
            Table(
                title,
                ("Where", "Code", "What"),
                [
                    [
                        cells.text(_place(one)),
                        cells.code(one.get("code", "")),
                        cells.free_text(str(one.get("detail", ""))),
                    ]
                    for one in found
                ],
            )
            for title, found in (("What is wrong", obj.problems), ("Odd, and taken", obj.warnings))
            if found
        ]
        if obj.direction == Direction.IN and statements:
            tables.append(_statements_table(obj, statements))
        return tables


def _place(problem: dict[str, Any]) -> str:
    places = ((name, problem.get(name)) for name in ("statement", "entry", "line"))
    return ", ".join(f"{name} {found}" for name, found in places if found)


def _statements_table(file: BankFile, statements: Sequence[BankStatement]) -> Table:
    url = reverse("admin:banking_bankstatement_changelist")
    return Table(
        "Statements in it",
        ("Statement", "Account", "State", ">Lines", ">New", ">Opening", ">Closing"),
        [
            [
                cells.link(statement_url(one), one.statement_id or str(one)),
                cells.masked_iban(one.identification_tail),
                cells.state(one.state),
                cells.number(one.line_count),
                cells.number(one.new_line_count),
                cells.amount(one.opening_minor, one.currency),
                cells.amount(one.closing_minor, one.currency),
            ]
            for one in statements[:ROWS_SHOWN]
        ],
        note=f"The first {ROWS_SHOWN}." if len(statements) > ROWS_SHOWN else "",
        more_url=f"{url}?bank_file_id={file.id}",
        more_label="As a list",
    )
