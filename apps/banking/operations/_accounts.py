"""Adding connections and accounts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apps.accounts import queries as accounts
from apps.banking import errors, queries
from apps.banking.models import BankAccount, BankConnection, BankStatement, LineQueue
from apps.banking.operations._calendar import seed_missing_years
from apps.banking.operations._files import reopen_files
from apps.banking.operations._polling import begin_polling
from apps.banking.states import Channel, StatementState
from apps.core import audit, encryption, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.money import exponent
from apps.core.work import WorkState
from apps.ledger import operations as ledger
from apps.ledger.operations import AccountSpec

CUT_OFF: Final = time(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose account it is, as payment files must say it: town and country at least."""

    name: str
    town: str
    country: str
    street: str | None = None
    building: str | None = None
    post_code: str | None = None

    def address(self) -> Mapping[str, str]:
        """Return the address as it is stored: what is not given is left out."""
        parts = {
            "town": self.town,
            "country": self.country,
            "street": self.street,
            "building": self.building,
            "post_code": self.post_code,
        }
        return {name: text for name, text in parts.items() if text}


@dataclass(frozen=True, slots=True, kw_only=True)
class BankTerms:
    """How the bank works: its clock, its cut-off, and whether it books a file as one line."""

    zone: str = "Europe/Berlin"
    cut_off: time = CUT_OFF
    is_batch_booked: bool = True


@transactions.outermost
def add_bank_connection(
    *,
    organization_id: UUID,
    name: str,
    channel: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> BankConnection:
    """Add a way to a bank: `manual` or `sandbox`. Replaying the key returns the first."""
    claim = idempotency.claim(
        organization_id, idempotency_key, "add_bank_connection", name, channel
    )
    if claim.replayed:
        return queries.get_connection(
            organization_id=organization_id, connection_id=claim.resource_id
        )
    connection = BankConnection.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        name=name,
        channel=Channel(channel),
        created_at=now,
    )
    begin_polling(connection)
    audit.record("banking.add_bank_connection", connection, actor=actor, after={"channel": channel})
    return connection


@transactions.outermost
def add_bank_account(  # noqa: PLR0913  (an account is what it is, and who adds it)
    *,
    organization_id: UUID,
    connection_id: UUID,
    name: str,
    identification: str,
    currency: str,
    holder: Holder,
    bic: str = "",
    terms: BankTerms | None = None,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> BankAccount:
    """
    Add an account of ours and open its ledger account, `bank:<ba_…>:<currency>`.

    Statements of it that came before are read again by a worker. `identification` is an IBAN or the
    bank's own id; only its form is looked at, since real accounts with wrong check digits exist.
    Replaying the key returns the account as it is now.

    :raises BankConnectionNotFound: if the organization has no such connection
    :raises InvalidBankAccount: if currency, zone, country or identification cannot be right
    :raises BankAccountExists: if the account was added in this currency before
    """
    compact = "".join(identification.split()).upper()
    index = queries.identification_index(organization_id=organization_id, identification=compact)
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "add_bank_account",
        connection_id,
        index,
        currency,
        name,
        prefix="ba",
    )
    if claim.replayed:
        return queries.get_bank_account(
            organization_id=organization_id, bank_account_id=claim.resource_id
        )
    terms = terms or BankTerms()
    _refuse_malformed(compact, currency=currency, holder=holder, zone=terms.zone)
    queries.get_connection(organization_id=organization_id, connection_id=connection_id)
    account = BankAccount(
        id=claim.resource_id,
        organization_id=organization_id,
        connection_id=connection_id,
        name=name,
        identification_sealed=encryption.seal(
            organization_id, queries.IDENTIFICATION_COLUMN, claim.resource_id, compact
        ),
        identification_index=index,
        identification_tail=compact[-4:],
        bic=bic.upper(),
        currency=currency,
        holder_name=holder.name,
        holder_address=dict(holder.address()),
        zone=terms.zone,
        cut_off=terms.cut_off,
        is_batch_booked=terms.is_batch_booked,
        created_at=now,
    )
    # Whoever keeps a statement of an account we do not know holds this lock while looking: either
    # finds the account, or is found below. Without it both could miss each other, for good.
    accounts.lock_organization(organization_id=organization_id)
    account.ledger_account_id = _open_ledger_account(account, now=now)
    _insert(account)
    LineQueue.objects.create(
        id=new_id(),
        organization_id=organization_id,
        bank_account_id=account.id,
        state=WorkState.DONE,
    )
    seed_missing_years(now=now)
    _read_again(account)
    audit.record(
        "banking.add_bank_account",
        account,
        actor=actor,
        after={"tail": account.identification_tail, "currency": currency},
    )
    return account


def _refuse_malformed(identification: str, *, currency: str, holder: Holder, zone: str) -> None:
    try:
        exponent(currency)
        ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError) as fault:
        raise errors.InvalidBankAccount("The currency or the time zone is not known.") from fault
    if not (holder.name and holder.town and len(holder.country) == 2):  # noqa: PLR2004  (ISO 3166)
        raise errors.InvalidBankAccount("The holder needs a name, a town and a country.")
    if not identification or len(identification) > 34:  # noqa: PLR2004  (an IBAN's longest)
        raise errors.InvalidBankAccount("An account is identified by 1 to 34 characters.")


def _open_ledger_account(account: BankAccount, *, now: datetime) -> UUID:
    code = f"bank:{encode_id('ba', account.id)}:{account.currency}"
    opened = ledger.open_accounts(
        organization_id=account.organization_id,
        accounts=[AccountSpec(code, "asset", account.currency)],
        now=now,
    )
    return opened[code]


def _insert(account: BankAccount) -> None:
    # Two callers may race for one account: the first insert wins, the other finds no row.
    BankAccount.objects.bulk_create([account], ignore_conflicts=True)
    if not BankAccount.objects.filter(
        organization_id=account.organization_id, id=account.id
    ).exists():
        raise errors.BankAccountExists("This account was added before, in this currency.")


def _read_again(account: BankAccount) -> None:
    waiting = BankStatement.objects.filter(
        organization_id=account.organization_id,
        identification_index=account.identification_index,
        currency=account.currency,
        state=StatementState.UNKNOWN_ACCOUNT,
    )
    reopen_files(
        organization_id=account.organization_id,
        bank_file_ids=list(waiting.values_list("bank_file_id", flat=True).distinct()),
    )
