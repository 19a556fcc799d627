"""Makes the organisations of `bench.books` by Kassa's own operations; runs as a child."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from apps.accounts import operations as accounts
from apps.accounts.models import Organization
from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import new_ids
from apps.ledger import operations as ledger
from apps.ledger import queries, rules
from apps.ledger.operations import AccountSpec

ACTOR: Final = Actor.job("bench")
_MONEY_MINOR: Final = 10**15


def prepare(order: Mapping[str, Any]) -> Callable[[], list[dict[str, object]]]:
    """Return what opens an organisation of `open` accounts, or without any looks up those here."""

    def make() -> list[dict[str, object]]:
        listed = _open(order["open"]) if order["open"] else _find()
        issued_by = _staff()
        return [
            {
                "organization": str(organization_id),
                "accounts": list(map(str, reached)),
                "token": _issue_key(organization_id, issued_by),
            }
            for organization_id, reached in sorted(listed.items(), key=lambda row: -len(row[1]))
        ]

    return make


def _staff() -> UUID:
    return accounts.create_staff(
        email=f"bench-{secrets.token_hex(4)}@kassa.test", name="Bench",
        password=secrets.token_urlsafe(24), role_names=[], organization_ids=[],
        sees_all_organizations=True, actor=ACTOR, now=clock.now(),
    ).id  # fmt: skip


def _issue_key(organization_id: UUID, issued_by: UUID) -> str:
    issued = accounts.create_api_key(
        organization_id=organization_id, name="bench", scopes=["transfers:write", "ledger:read"],
        issued_by=issued_by, actor=ACTOR, now=clock.now(),
    )  # fmt: skip
    return issued.token


def _find() -> dict[UUID, list[UUID]]:
    found = {}
    for organization_id in Organization.objects.filter(mode="live").values_list("id", flat=True):
        views = queries.list_balances(organization_id=organization_id)
        # A short history leaves some without money.
        wallets = [
            view.account_id for view in views if view.code.startswith("wallets:") and view.available
        ]
        if wallets:
            found[organization_id] = wallets
    return found


def _open(count: int) -> dict[UUID, list[UUID]]:
    made = accounts.create_organization(name="Bench", time_zone="UTC", actor=ACTOR, now=clock.now())
    return {made.id: _open_accounts(made.id, count)}


@transactions.outermost
def _open_accounts(organization_id: UUID, count: int) -> list[UUID]:
    now = clock.now()
    specs = [
        AccountSpec(f"wallets:w_{n}:EUR", "liability", "EUR", 0, internal=False)
        for n in range(count)
    ]
    bank = AccountSpec("bank:bench:EUR", "asset", "EUR")
    opened = ledger.open_accounts(organization_id=organization_id, accounts=[*specs, bank], now=now)
    funded = [opened[spec.code] for spec in specs]
    ledger.post(
        organization_id=organization_id,
        commands=[
            rules.Transfer(
                id=id_,
                debit_account_id=opened[bank.code],
                credit_account_id=account,
                amount_minor=_MONEY_MINOR // count,
                currency="EUR",
                kind="funding",
            )
            for id_, account in zip(new_ids(len(funded)), funded, strict=True)
        ],
        actor=ACTOR,
        now=now,
    )
    return funded
