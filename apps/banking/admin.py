"""Staff screens of banking: our accounts, the files that came and went, and every booked line."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts.queries import for_staff
from apps.banking import operations, queries
from apps.banking.models import BankAccount, BankFile, BankLine, BankLineStatus, BankStatement
from apps.banking.states import Direction, FileState, LineState, StatementState
from apps.core.admin_base import (
    Act,
    ActForm,
    Fact,
    Filter,
    Keyset,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
)
from apps.core.ids import encode_id
from apps.ledger import queries as ledger

FILE_BYTES_MAX = 50 * 1024 * 1024
ROWS_SHOWN = 100


# --- Accounts -----------------------------------------------------------------------------------


@admin.register(BankAccount)
class BankAccountAdmin(RecordAdmin[BankAccount]):
    """Accounts of ours at a bank, and whether bank and books say the same."""

    view_capability = "banking.view_statement"
    prefix = "ba"
    title = "Bank accounts"
    intro = "Accounts of ours at a bank, each with its account in the books."
    empty = "No bank account has been added yet."
    tones: ClassVar[Mapping[str, str]] = {"open": "good"}
    related: ClassVar[Sequence[str]] = ("organization", "connection")
    list_display = ("label", "number", "bank", "books", "closing", "unexplained", "state")
    facts = ("id", "number", "bank", "holder_name", "cut", "books", "closing", "gap", "state")

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[BankAccount]) -> None:
        by_organization: dict[UUID, list[UUID]] = {}
        for row in rows:
            by_organization.setdefault(row.organization_id, []).append(row.ledger_account_id)
        books = {
            view.account_id: view
            for organization_id, ids in by_organization.items()
            for view in ledger.list_balances(organization_id=organization_id, ids=ids)
        }
        ids = [row.id for row in rows]
        last = {one.bank_account_id: one for one in _last_statements(ids)}
        waiting = dict(
            BankLineStatus.objects.filter(
                bank_account_id__in=ids, state__in=[LineState.NEW, LineState.IN_SUSPENSE]
            )
            .order_by()
            .values_list("bank_account_id")
            .annotate(Count("id"))
        )
        for row in rows:
            row.view = books[row.ledger_account_id]  # type: ignore[attr-defined]  # for the cells
            row.last = last.get(row.id)  # type: ignore[attr-defined]  # for the cells
            row.waiting = waiting.get(row.id, 0)  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: BankAccount) -> str:
        return f"{obj.name}, {obj.currency}"

    @override
    def lead(self, obj: BankAccount) -> Sequence[SafeString]:
        return [self.books(obj), cells.text("in the books")]

    @shown("Account")
    def label(self, obj: BankAccount) -> SafeString:
        return cells.link(self.url_of(obj), obj.name)

    def number(self, obj: BankAccount) -> SafeString:
        return cells.masked_iban(obj.identification_tail)

    def bank(self, obj: BankAccount) -> SafeString:
        return cells.text(" ".join(filter(None, (obj.connection.name, obj.bic))))

    @shown("Cut-off")
    def cut(self, obj: BankAccount) -> SafeString:
        return cells.text(f"{obj.cut_off:%H:%M} {obj.zone}")

    @shown("In the books", align="end")
    def books(self, obj: BankAccount) -> SafeString:
        return cells.amount(obj.view.posted, obj.currency)  # type: ignore[attr-defined]  # prepare

    @shown("Last statement", align="end")
    def closing(self, obj: BankAccount) -> SafeString:
        last = _last(obj)
        return cells.NONE if last is None else cells.amount(last.closing_minor, obj.currency)

    @shown("Of")
    def gap(self, obj: BankAccount) -> SafeString:
        last = _last(obj)
        return cells.NONE if last is None else cells.day(last.closing_date)

    @shown("Unexplained lines", align="end")
    def unexplained(self, obj: BankAccount) -> SafeString:
        return cells.number(obj.waiting)  # type: ignore[attr-defined]  # attached by prepare

    @override
    def get_tables(self, request: HttpRequest, obj: BankAccount) -> list[Table]:
        statements = BankStatement.objects.filter(
            organization_id=obj.organization_id, bank_account_id=obj.id
        ).order_by("-closing_date", "-id")[:20]
        url = reverse("admin:banking_bankline_changelist")
        return [
            Table(
                "Statements",
                ("Statement", "Closes on", "Chain", ">Lines", ">Opening", ">Closing"),
                [
                    [
                        cells.link(statement_url(one), one.statement_id or str(one)),
                        cells.day(one.closing_date),
                        cells.state(one.chain, tone="warn" if one.chain == "gap" else "flat"),
                        cells.number(one.line_count),
                        cells.amount(one.opening_minor, one.currency),
                        cells.amount(one.closing_minor, one.currency),
                    ]
                    for one in statements
                ],
                empty="No statement of this account was imported yet.",
                more_url=f"{url}?bank_account_id={obj.id}",
                more_label="Every line of this account",
            )
        ]


def _last_statements(ids: list[UUID]) -> QuerySet[BankStatement]:
    found = BankStatement.objects.filter(
        bank_account_id__in=ids, source="statement", state=StatementState.IMPORTED
    )
    ordered = found.order_by("bank_account_id", "-closing_date", "-id")
    return ordered.distinct("bank_account_id")


def _last(account: BankAccount) -> BankStatement | None:
    last: BankStatement | None = account.last  # type: ignore[attr-defined]  # by prepare
    return last


def statement_url(statement: BankStatement) -> str:
    """Return the address of a statement's page."""
    return reverse("admin:banking_bankstatement_change", args=[encode_id("bst", statement.id)])


# --- Files --------------------------------------------------------------------------------------


class ImportForm(ActForm):
    """A statement as the bank gave it."""

    bank_account = forms.ModelChoiceField(
        BankAccount.objects.none(), help_text="Whose statement it is; the file must say the same."
    )
    file = forms.FileField(help_text="camt.053 or camt.054, at most 50 MB.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        accounts = for_staff(BankAccount.objects.order_by("name", "id"), self.user)
        self.fields["bank_account"].queryset = accounts  # type: ignore[attr-defined]  # a choice field

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
        lists.choice("direction", [("in", "from a bank"), ("out", "to a bank")]),
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
        return cells.text(f"{obj.byte_count / 1024:,.1f} kB")

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
        statements = BankStatement.objects.filter(
            organization_id=obj.organization_id, bank_file_id=obj.id
        ).order_by("position")[:ROWS_SHOWN]
        tables = [
            Table(
                title,
                ("Where", "Code", "What"),
                [
                    [
                        cells.text(_place(one)),
                        cells.code(one.get("code", "")),
                        cells.free_text(str(one.get("message", ""))),
                    ]
                    for one in found
                ],
            )
            for title, found in (("What is wrong", obj.problems), ("Odd, and taken", obj.warnings))
            if found
        ]
        if obj.direction == Direction.IN and statements:
            tables.append(_statements_table(statements))
        return tables


def _place(problem: dict[str, Any]) -> str:
    line = problem.get("line") or problem.get("source_line")
    return f"line {line}" if line else str(problem.get("path", ""))


def _statements_table(statements: QuerySet[BankStatement]) -> Table:
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
            for one in statements
        ],
    )


# --- Statements ---------------------------------------------------------------------------------


@admin.register(BankStatement)
class BankStatementAdmin(RecordAdmin[BankStatement]):
    """What a bank says it booked, statement by statement."""

    view_capability = "banking.view_statement"
    prefix = "bst"
    title = "Statements"
    intro = "What the bank says. Opening balance and lines add up to the closing one, or the file"
    intro += " is refused."
    empty = "No statement was imported yet."
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = (
        "label",
        "account",
        "closing_date",
        "line_count",
        "opening_minor",
        "closing_minor",
        "chain_cell",
        "state",
    )
    facts = (
        "id",
        "account",
        "opening_date",
        "closing_date",
        "opening_minor",
        "closing_minor",
        "line_count",
        "new_line_count",
        "chain_cell",
        "file_cell",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", StatementState.choices),
        lists.choice("source", [("statement", "statement"), ("notification", "notification")]),
    )

    @override
    def headline(self, obj: BankStatement) -> str:
        return f"Statement {obj}"

    @shown("Statement")
    def label(self, obj: BankStatement) -> SafeString:
        return cells.link(self.url_of(obj), obj)

    def account(self, obj: BankStatement) -> SafeString:
        if obj.bank_account is None:
            return cells.masked_iban(obj.identification_tail)
        return cells.text(obj.bank_account)

    @shown("Chain")
    def chain_cell(self, obj: BankStatement) -> SafeString:
        return cells.state(obj.chain, tone="warn" if obj.chain == "gap" else "flat")

    @shown("File")
    def file_cell(self, obj: BankStatement) -> SafeString:
        return cells.row_link("banking_bankfile", "bf", obj.bank_file_id)

    @override
    def get_tables(self, request: HttpRequest, obj: BankStatement) -> list[Table]:
        lines = list(
            BankLine.objects.filter(
                organization_id=obj.organization_id, statement_id=obj.id
            ).order_by("position")[:ROWS_SHOWN]
        )
        became = _statuses(lines)
        url = reverse("admin:banking_bankline_changelist")
        return [
            Table(
                "Lines and what became of them",
                (">No.", "Booked", "Reference", "From or to", "Text", "Became", "Entry", ">Amount"),
                [
                    [
                        cells.number(one.position),
                        cells.day(one.booking_date),
                        cells.cut(_reference(one), head=14, tail=8),
                        cells.masked_iban(one.counterparty_tail)
                        if one.counterparty_tail
                        else cells.NONE,
                        cells.free_text(" ".join(one.texts)[:80] or one.text[:80]),
                        _became(became.get(one.id)),
                        _entry(became.get(one.id)),
                        cells.amount(one.amount_minor, one.currency, colored=True),
                    ]
                    for one in lines
                ],
                empty="It has no line.",
                note=f"The first {ROWS_SHOWN}." if obj.line_count > ROWS_SHOWN else "",
                more_url=f"{url}?statement_id={obj.id}",
                more_label="As a list",
            )
        ]


def _statuses(lines: Sequence[BankLine]) -> dict[UUID, BankLineStatus]:
    rows = BankLineStatus.objects.filter(
        organization_id__in={line.organization_id for line in lines},
        line_id__in=[line.id for line in lines],
    )
    return {row.line_id: row for row in rows}


def _reference(line: BankLine) -> str:
    own = line.creditor_references[0] if line.creditor_references else ""
    return own or line.end_to_end_id or line.account_servicer_ref or line.entry_ref


def _became(status: BankLineStatus | None) -> SafeString:
    if status is None:
        return cells.NONE
    tone = {"matched": "good", "in_suspense": "warn", "new": "busy"}.get(status.state, "flat")
    label = f"{status.state} {status.reason}".strip().replace("_", " ")
    return cells.state(status.state, label=label, tone=tone)


def _entry(status: BankLineStatus | None) -> SafeString:
    return cells.row_link("ledger_journalentry", "je", status.entry_id if status else None)


@admin.register(BankLine)
class BankLineAdmin(RecordAdmin[BankLine]):
    """Every line a bank booked, and what became of it."""

    view_capability = "banking.view_statement"
    prefix = "bl"
    title = "Bank lines"
    intro = "Every line as the bank booked it. It never changes; what became of it does."
    empty = "No line was imported yet."
    search_hint = "bl_… or the bank's own reference"
    keyset = Keyset()
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = ("id", "booking_date", "account", "party", "said", "became", "money")
    facts = (
        "id",
        "money",
        "booking_date",
        "value_date",
        "account",
        "party",
        "became",
        "entry",
        "reference",
        "end_to_end_id",
        "account_servicer_ref",
        "bank_code",
        "statement_cell",
        "said",
    )
    filters: ClassVar[Sequence[Filter]] = (
        Filter(
            "became",
            "Became",
            lambda rows, state: rows.filter(
                pk__in=BankLineStatus.objects.filter(state=state).values("line_id")
            ),
            [(value, str(label).replace("_", " ")) for value, label in LineState.choices],
        ),
        Filter(
            "way",
            "Way",
            lambda rows, way: rows.filter(
                Q(amount_minor__gt=0) if way == "in" else Q(amount_minor__lt=0)
            ),
            [("in", "Money in"), ("out", "Money out")],
        ),
        lists.linked("bank_account_id", "Lines of one bank account"),
        lists.linked("statement_id", "Lines of one statement"),
    )

    @override
    def find(self, request: HttpRequest, rows: QuerySet[BankLine], text: str) -> QuerySet[BankLine]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(account_servicer_ref=text)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[BankLine]) -> None:
        found = _statuses(rows)
        for row in rows:
            row.status = found.get(row.id)  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: BankLine) -> str:
        return f"Bank line of {obj.booking_date:%d %b %Y}"

    @override
    def lead(self, obj: BankLine) -> Sequence[SafeString]:
        return [self.money(obj), self.became(obj)]

    def account(self, obj: BankLine) -> SafeString:
        return cells.text(obj.bank_account)

    @shown("From or to")
    def party(self, obj: BankLine) -> SafeString:
        return cells.masked_iban(obj.counterparty_tail) if obj.counterparty_tail else cells.NONE

    @shown("Text")
    def said(self, obj: BankLine) -> SafeString:
        return cells.free_text(" ".join(obj.texts)[:120] or obj.text[:120])

    @shown("Became")
    def became(self, obj: BankLine) -> SafeString:
        return _became(obj.status)  # type: ignore[attr-defined]  # attached by prepare

    def entry(self, obj: BankLine) -> SafeString:
        return _entry(obj.status)  # type: ignore[attr-defined]  # attached by prepare

    @shown("Reference")
    def reference(self, obj: BankLine) -> SafeString:
        return cells.words(obj.creditor_references)

    @shown("Statement")
    def statement_cell(self, obj: BankLine) -> SafeString:
        return cells.row_link("banking_bankstatement", "bst", obj.statement_id)

    @shown("Amount", align="end")
    def money(self, obj: BankLine) -> SafeString:
        return cells.amount(obj.amount_minor, obj.currency, colored=True)

    @override
    def get_tables(self, request: HttpRequest, obj: BankLine) -> list[Table]:
        found = queries.list_details(organization_id=obj.organization_id, line_ids=[obj.id])
        details = found.get(obj.id, []) if isinstance(found, dict) else found
        if not details:
            return []
        return [
            Table(
                "Transactions in it",
                (">No.", "End-to-end id", "From or to", "Text", "Return", ">Amount"),
                [
                    [
                        cells.number(one.position),
                        cells.code(one.end_to_end_id),
                        cells.masked_iban(one.counterparty_tail)
                        if one.counterparty_tail
                        else cells.NONE,
                        cells.free_text(" ".join(one.texts)[:80]),
                        cells.code(one.return_code),
                        cells.amount(one.amount_minor, obj.currency, colored=True),
                    ]
                    for one in details[:ROWS_SHOWN]
                ],
            )
        ]
