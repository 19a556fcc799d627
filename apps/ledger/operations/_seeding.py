"""
Made-up history, for measuring reads and writes on books of a real size; never in production.

Cycles of four entries: a pay-in from one of three banks to a wallet, a transfer to another wallet,
a fee, and a payout to the bank. Each hands on a part of what the one before it brought, so no
wallet is ever below its floor of zero, at any entry and by either clock. Which wallets take part is
skewed: the busiest hundredth sees a fifth of it, and the banks and the fees see most of all.

Every chunk is one statement in one transaction, guards and triggers on, and what is done is read
from the balances: so it can be stopped at any instant and goes on where it was.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection

from apps.core import outbox, transactions
from apps.core import queries as core_queries
from apps.core.actors import Actor
from apps.core.errors import RuleViolation, StateConflict
from apps.core.events import public_type
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.events import JournalEntryPosted
from apps.ledger.models import JournalEntry, LedgerAccount
from apps.ledger.operations._accounts import AccountSpec, open_accounts

SEED_ACTOR: Final = Actor.job("seed_ledger")
CURRENCY: Final = "EUR"
BANKS: Final = tuple(f"bank:seed_{number}:{CURRENCY}" for number in (1, 2, 3))
FEES: Final = f"fees:seed:{CURRENCY}"
_DAYS_A_MONTH: Final = 30.4375
# A transfer needs two accounts; and ids, which begin with a time, begin in 1970.
_BOUNDS: Final = {
    "postings": (1, 10**9),
    "accounts": (2, 10**6),
    "months": (1, 600),
    "seed": (-(10**18), 10**18),
}

# The wallets come first, then the banks, then the fees: `place` counts from 1 in this order. All
# that is random comes from hashes of the seed and the number, so a chunk is the same whenever and
# however large it is made; only ids are not.
_WRITE: Final = """
    WITH account AS MATERIALIZED (
        SELECT named.place, b.id, named.printed, b.credit_normal, b.version,
               CASE WHEN b.credit_normal THEN b.posted_credits - b.posted_debits
                    ELSE b.posted_debits - b.posted_credits END AS posted
          FROM unnest(%(ids)s::uuid[], %(printed)s::text[])
               WITH ORDINALITY AS named(id, printed, place)
          JOIN ledger_balance b ON b.organization_id = %(org)s AND b.id = named.id
    ), cycle AS (
        SELECT i, i / 4 AS cycle, i %% 4 AS step,
               -- Every wallet once, then by a power law: the lower its number, the busier it is.
               CASE WHEN i / 4 < %(wallets)s THEN i / 4
                    ELSE floor(%(wallets)s * power((h1 & 16777215) / 16777216::float8, 3))::bigint
                END AS wallet,
               floor(%(wallets)s * power((h2 & 16777215) / 16777216::float8, 3))::bigint AS other,
               CASE WHEN h3 & 1023 < 716 THEN 1 WHEN h3 & 1023 < 921 THEN 2 ELSE 3 END AS bank,
               20000 + (h3 >> 10 & 262143) AS amount,
               hashint8extended(i, %(seed)s + 3) & 1048575 AS jitter
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i,
               LATERAL (SELECT hashint8extended(i / 4, %(seed)s) AS h1,
                               hashint8extended(i / 4, %(seed)s + 1) AS h2,
                               hashint8extended(i / 4, %(seed)s + 2) AS h3) AS drawn
    ), timed AS (
        SELECT c.*, CASE WHEN other = wallet THEN (other + 1) %% %(wallets)s ELSE other END AS peer,
               %(starts_at)s::timestamptz + %(seconds)s * (i + jitter / 1310720::float8)
                   / %(total)s * interval '1 second' AS recorded_at
          FROM cycle c
    ), plan AS MATERIALIZED (
        SELECT i, cycle, step, recorded_at,
               -- A bank's value date may lie before the day its statement came.
               CASE WHEN step = 0 AND jitter %% 20 = 0
                    THEN greatest(%(starts_at)s, recorded_at - jitter * interval '0.25 second')
                    ELSE recorded_at END AS effective_at,
               uuidv7(recorded_at - clock_timestamp()) AS entry_id,
               uuidv7(recorded_at - clock_timestamp()) AS batch_id,
               (ARRAY['payin', 'transfer', 'fee', 'payout'])[step + 1] AS kind,
               CASE step WHEN 0 THEN amount WHEN 1 THEN amount / 4
                         WHEN 2 THEN 25 + amount / 400 ELSE amount / 8 END AS amount,
               CASE step WHEN 0 THEN %(wallets)s + bank WHEN 3 THEN peer + 1
                         ELSE wallet + 1 END AS debit,
               CASE step WHEN 0 THEN wallet + 1 WHEN 1 THEN peer + 1
                         WHEN 2 THEN %(wallets)s + 4 ELSE %(wallets)s + bank END AS credit,
               CASE WHEN step IN (0, 3) THEN
                   (ARRAY['seed-in-', '', '', 'seed-out-'])[step + 1] || cycle END AS reference,
               CASE WHEN jitter %% 10 = 0 THEN jsonb_build_object('order', 'ord_' || cycle)
                    ELSE '{}' END AS metadata
          FROM timed
    ), leg AS MATERIALIZED (
        SELECT plan.i, plan.entry_id, plan.effective_at, plan.recorded_at, side.number,
               account.id AS account_id, side.amount,
               account.version + row_number() OVER own AS account_version,
               account.posted + SUM(CASE WHEN account.credit_normal THEN -side.amount
                                         ELSE side.amount END) OVER own AS balance_after
          FROM plan
         CROSS JOIN LATERAL (VALUES (1, plan.debit, plan.amount), (2, plan.credit, -plan.amount))
                    AS side(number, place, amount)
          JOIN account ON account.place = side.place
        WINDOW own AS (PARTITION BY account.id ORDER BY plan.i, side.number
                       ROWS UNBOUNDED PRECEDING)
    ), entries AS (
        INSERT INTO ledger_journal_entry
            (id, organization_id, kind, reference, description, effective_at, recorded_at, actor,
             metadata)
        SELECT entry_id, %(org)s, kind, reference, '', effective_at, recorded_at, %(actor)s,
               metadata
          FROM plan ORDER BY i
    ), postings AS (
        INSERT INTO ledger_posting
            (organization_id, entry_id, number, account_id, amount_minor, currency,
             account_version, balance_after_minor, effective_at, recorded_at)
        SELECT %(org)s, entry_id, number, account_id, amount, %(currency)s, account_version,
               balance_after, effective_at, recorded_at
          FROM leg ORDER BY i, number
    ), batches AS (
        INSERT INTO core_outbox_batch
            (id, organization_id, public, event_count, inserted_at, position, state, attempts,
             lapses, next_attempt_at, last_error_code, traceparent)
        SELECT batch_id, %(org)s, TRUE, 1, recorded_at,
               %(position)s + row_number() OVER (ORDER BY i), 'done', 1, 0, recorded_at, '', ''
          FROM plan ORDER BY i
    ), events AS (
        INSERT INTO core_outbox_event
            (id, organization_id, batch_id, ordinal, name, type, public, schema_version,
             aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor, request_id,
             traceparent, data)
        -- Like any event's, its id is above that of its batch, though a busy machine may stop us
        -- between the two clocks that one of them is made by.
        SELECT uuidv7(plan.recorded_at - clock_timestamp() + interval '1 second'), %(org)s,
               batch_id, 0,
               %(event)s, %(event_type)s, TRUE, %(schema_version)s, %(aggregate_type)s,
               kassa_public_id('je', entry_id), 1, recorded_at, recorded_at, %(actor)s, '', '',
               jsonb_build_object(
                   'kind', kind, 'reference', reference, 'effective_at',
                   to_char(effective_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                   'postings', jsonb_build_array(
                       jsonb_build_object('ledger_account', debited.printed, 'amount', amount,
                                          'currency', %(currency)s),
                       jsonb_build_object('ledger_account', credited.printed, 'amount', -amount,
                                          'currency', %(currency)s)))
          FROM plan
          JOIN account debited ON debited.place = plan.debit
          JOIN account credited ON credited.place = plan.credit
         ORDER BY i
    ), head AS (
        UPDATE core_feed_head
           SET last_position = last_position + (SELECT COUNT(*) FROM plan)
         WHERE organization_id = %(org)s
    )
    UPDATE ledger_balance AS b
       SET posted_debits = b.posted_debits + moved.debits,
           posted_credits = b.posted_credits + moved.credits,
           version = b.version + moved.postings,
           latest_effective_at = greatest(b.latest_effective_at, moved.latest)
      FROM (SELECT account_id, COUNT(*) AS postings, MAX(effective_at) AS latest,
                   COALESCE(SUM(amount) FILTER (WHERE amount > 0), 0) AS debits,
                   COALESCE(-SUM(amount) FILTER (WHERE amount < 0), 0) AS credits
              FROM leg GROUP BY account_id) AS moved
     WHERE b.organization_id = %(org)s AND b.id = moved.account_id
"""
# The plans of the first chunk were made for empty tables.
_ANALYZE: Final = """
    ANALYZE ledger_account, ledger_balance, ledger_journal_entry, ledger_posting,
            core_outbox_batch, core_outbox_event, core_feed_head
"""


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What is made, from the first run to the last: `entries` of two postings each."""

    organization_id: UUID
    entries: int
    seed: int
    starts_at: datetime
    ends_at: datetime
    account_ids: tuple[UUID, ...]


@transactions.outermost
def plan_seeding(
    *,
    organization_id: UUID,
    postings: int,
    accounts: int,
    months: int,
    seed: int,
    now: datetime,
) -> SeedPlan:
    """
    Open the accounts of a made-up history, or find the plan of one that was begun.

    `accounts` counts wallets; the history ends at the `now` of the first run. `postings` is rounded
    up to an even number. Every entry has its event, however old it is: the feed leads the sealer to
    what it seals.

    :raises StateConflict: in production, or if the organisation holds entries of anybody else, or
        if what was begun was begun with other numbers
    :raises RuleViolation: if a number is too small, or larger than such books are ever made
    """
    _refuse_production()
    check_seeding(postings=postings, accounts=accounts, months=months, seed=seed)
    strangers = JournalEntry.objects.filter(organization_id=organization_id)
    if strangers.exclude(actor=str(SEED_ACTOR)).exists():
        raise StateConflict("This organisation holds entries that were not made up.")
    asked = {"postings": postings, "accounts": accounts, "months": months, "seed": seed}
    wallets = [f"wallets:s_{number}:{CURRENCY}" for number in range(1, accounts + 1)]
    opened = open_accounts(
        organization_id=organization_id,
        accounts=[
            *(AccountSpec(code, "liability", CURRENCY, 0, internal=False) for code in wallets),
            *(AccountSpec(code, "asset", CURRENCY) for code in BANKS),
            AccountSpec(FEES, "income", CURRENCY),
        ],
        now=now,
    )
    ends_at = _keep_plan(organization_id, asked, now)
    return SeedPlan(
        organization_id=organization_id,
        entries=(postings + 1) // 2,
        seed=seed,
        starts_at=ends_at - timedelta(days=months * _DAYS_A_MONTH),
        ends_at=ends_at,
        account_ids=tuple(opened[code] for code in (*wallets, *BANKS, FEES)),
    )


def check_seeding(**numbers: int) -> None:
    """
    Refuse what `plan_seeding` would, of these numbers, before there is an organisation for them.

    :raises RuleViolation: if one is too small, or larger than such books are ever made
    """
    for name, number in numbers.items():
        least, most = _BOUNDS[name]
        if not least <= number <= most:
            raise RuleViolation(f"{name}: {number} is not between {least:,} and {most:,}.")


def _refuse_production() -> None:
    if settings.SETTINGS_MODULE.endswith(".production"):
        raise StateConflict("Nobody makes up history in production.")


def _keep_plan(organization_id: UUID, asked: dict[str, int], now: datetime) -> datetime:
    """Write the plan down with the first bank account, or compare; return when history ends."""
    bank = LedgerAccount.objects.get(organization_id=organization_id, code=BANKS[0])
    kept = bank.metadata.get("seeding")
    if kept is None:
        bank.metadata = {"seeding": asked | {"ends_at": now.isoformat()}}
        bank.save(update_fields=["metadata"])
        return now
    begun = {key: value for key, value in kept.items() if key != "ends_at"}
    if begun != asked:
        raise StateConflict("This history was begun with other numbers.", begun=begun)
    return datetime.fromisoformat(kept["ends_at"])


@transactions.outermost
def seed_entries(*, plan: SeedPlan, limit: int) -> int:
    """
    Write the next entries of the plan, at most `limit`; return how many there are then.

    :raises StateConflict: if events of the organisation wait for the relay
    """
    # Two that seed one organisation wait for each other here, and the later one reads afresh.
    locked = queries.lock_balances(
        organization_id=plan.organization_id, account_ids=plan.account_ids
    )
    done = sum(balance.version for balance in locked.values()) // 2
    last = min(plan.entries, done + limit)
    if last > done:
        position = _feed_position(plan.organization_id)
        with connection.cursor() as cursor:
            # The chunk is sorted and summed in memory, not in files.
            cursor.execute("SET LOCAL work_mem = '256MB'")
            cursor.execute(_WRITE, _parameters(plan, first=done, last=last - 1, position=position))
    return last


def _feed_position(organization_id: UUID) -> int:
    head = core_queries.lock_feed_head(organization_id=organization_id)
    if core_queries.lock_unnumbered_batches(organization_id=organization_id, limit=1):
        raise StateConflict("Events of this organisation wait for the relay; run it first.")
    return head.last_position


def _parameters(plan: SeedPlan, *, first: int, last: int, position: int) -> dict[str, Any]:
    return {
        "org": plan.organization_id,
        "ids": list(plan.account_ids),
        "printed": [encode_id("la", id_) for id_ in plan.account_ids],
        "wallets": len(plan.account_ids) - len(BANKS) - 1,
        "first": first,
        "last": last,
        "total": plan.entries,
        "seed": plan.seed,
        "starts_at": plan.starts_at,
        "seconds": (plan.ends_at - plan.starts_at).total_seconds(),
        "position": position,
        "actor": str(SEED_ACTOR),
        "currency": CURRENCY,
        "event": JournalEntryPosted.name,
        "event_type": public_type(JournalEntryPosted.name),
        "schema_version": JournalEntryPosted.schema_version,
        "aggregate_type": JournalEntryPosted.aggregate_type,
    }


def relay_opened() -> None:
    """Have the events of the opened accounts numbered before those of the history."""
    while outbox.relay():
        pass


@transactions.outermost
def analyze_seeded() -> None:
    """Refresh what the planner knows of tables that have grown from nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_ANALYZE)
