"""What stands beside the entries and tells of them: exchanges, batches, monitors, metadata."""

from typing import Final

from apps.core.invariants import Invariant, by_organization
from apps.core.money import EXPONENTS
from apps.ledger.invariants._walks import by_batches, by_entries

_USUAL: Final = 2


def _decimals(column: str) -> str:
    """Return, in SQL, how many decimals a currency has: a rate is of major units."""
    other = "".join(f" WHEN '{code}' THEN {n}" for code, n in EXPONENTS.items() if n != _USUAL)
    return f"(CASE {column}{other} ELSE {_USUAL} END)"


INVARIANTS: Final[dict[str, Invariant]] = {
    # Half an exchange undone is money made of nothing: the client has both currencies, or neither.
    "ledger_exchange_is_undone_as_a_whole": """
        SELECT f.organization_id, kassa_public_id('fx', f.id) AS fx_transfer,
               kassa_public_id('je', sold.id) AS undoes_sold,
               kassa_public_id('je', bought.id) AS undoes_bought
          FROM ledger_fx_transfer f
          LEFT JOIN ledger_journal_entry sold
            ON sold.organization_id = f.organization_id AND sold.reverses_id = f.sold_entry_id
          LEFT JOIN ledger_journal_entry bought
            ON bought.organization_id = f.organization_id AND bought.reverses_id = f.bought_entry_id
         WHERE (sold.id IS NULL) <> (bought.id IS NULL)
         ORDER BY f.id
    """,
    # It tells what its two entries did: what was sold left the one account of the client's, and
    # what was bought came to the other, at its rate and with what rounding left.
    "ledger_exchange_is_what_was_posted": by_organization(
        "ledger_fx_transfer",
        """
        SELECT f.organization_id, kassa_public_id('fx', f.id) AS fx_transfer,
               f.sold_minor, f.sold_currency, sold.amount_minor AS sold_posted,
               f.bought_minor, f.bought_currency, bought.amount_minor AS bought_posted,
               f.rate, f.remainder_minor
          FROM {rows} f
          LEFT JOIN ledger_balance source
            ON source.organization_id = f.organization_id AND source.id = f.from_account_id
          LEFT JOIN ledger_balance target
            ON target.organization_id = f.organization_id AND target.id = f.to_account_id
          LEFT JOIN ledger_posting sold
            ON sold.organization_id = f.organization_id AND sold.entry_id = f.sold_entry_id
           AND sold.account_id = source.id AND sold.currency = f.sold_currency
          LEFT JOIN ledger_posting bought
            ON bought.organization_id = f.organization_id AND bought.entry_id = f.bought_entry_id
           AND bought.account_id = target.id AND bought.currency = f.bought_currency
         WHERE sold.amount_minor IS DISTINCT FROM
               CASE WHEN source.credit_normal THEN f.sold_minor ELSE -f.sold_minor END
            OR bought.amount_minor IS DISTINCT FROM
               CASE WHEN target.credit_normal THEN -f.bought_minor ELSE f.bought_minor END
            OR f.rate * f.sold_minor * 10::numeric ^ ({of_bought} - {of_sold})
               <> f.bought_minor + f.remainder_minor
         ORDER BY f.id
        """.replace("{of_sold}", _decimals("f.sold_currency")).replace(
            "{of_bought}", _decimals("f.bought_currency")
        ),
    ),
    # Each of its transfers was answered by an entry of this organisation, or by a refusal: what a
    # replay says, and who reads the batch, was never anything else.
    "ledger_batch_is_of_entries_or_refusals": by_batches("""
        SELECT t.organization_id, kassa_public_id('tb', t.id) AS batch, answer.index,
               kassa_public_id('je', answer.entry_id) AS entry,
               CASE WHEN answer.entry_id IS NOT NULL AND e.id IS NULL
                    THEN 'no such entry in this organization'
                    ELSE 'neither an entry nor a refusal, or both' END AS what
          FROM {rows} t
         CROSS JOIN LATERAL (
               SELECT given.entry_id, given.place, refused.index IS NOT NULL AS is_refused,
                      COALESCE((given.place - 1)::text, refused.index) AS index
                 FROM unnest(t.entry_ids) WITH ORDINALITY AS given(entry_id, place)
                 FULL JOIN jsonb_object_keys(t.refusals) AS refused(index)
                   ON refused.index = (given.place - 1)::text) AS answer
          LEFT JOIN ledger_journal_entry e
            ON e.organization_id = t.organization_id AND e.id = answer.entry_id
         WHERE (answer.entry_id IS NOT NULL AND e.id IS NULL)
            OR (answer.entry_id IS NULL) <> answer.is_refused OR answer.place IS NULL
         ORDER BY t.id, answer.place
    """),
    # A posting moves both under one lock. One that stood on the wrong side would be told late, or
    # twice, and one whose account is not marked never.
    "ledger_monitor_stands_where_its_balance_does": by_organization(
        "ledger_balance_monitor",
        """
        SELECT m.organization_id, kassa_public_id('bm', m.id) AS monitor, m.direction,
               m.threshold_minor, seen.balance, m.is_beyond, b.monitored
          FROM {rows} m
          JOIN ledger_balance b ON b.organization_id = m.organization_id AND b.id = m.account_id
         CROSS JOIN LATERAL (
               SELECT CASE WHEN b.credit_normal THEN b.posted_credits - b.posted_debits
                           ELSE b.posted_debits - b.posted_credits END
                      - CASE WHEN m.measure <> 'available' THEN 0
                             WHEN b.credit_normal THEN b.pending_debits
                             ELSE b.pending_credits END AS balance) AS seen
         WHERE m.is_active
           AND (NOT b.monitored
                OR m.is_beyond <> CASE WHEN m.direction = 'below'
                                       THEN seen.balance < m.threshold_minor
                                       ELSE seen.balance > m.threshold_minor END)
         ORDER BY m.id
        """,
    ),
    # Its threshold is in the currency of its account, so that has to be there, and its own: the
    # account never changes either. What it was asked to watch is in the audit trail, and so is
    # whether it was called off.
    "ledger_monitor_is_what_was_asked": by_organization(
        "ledger_balance_monitor",
        """
        SELECT %(org)s::uuid AS organization_id,
               kassa_public_id('bm', COALESCE(m.id, a.id)) AS monitor,
               CASE WHEN m.id IS NULL THEN 'is gone'
                    WHEN b.id IS NULL THEN 'is of no account'
                    WHEN a.id IS NULL THEN 'was never asked for'
                    WHEN m.is_active = a.is_off THEN 'is on, or off, and not as was asked'
                    WHEN a.terms IS DISTINCT FROM own.terms THEN 'watches something else'
                    ELSE 'does not say how often it told' END AS what,
               own.terms, a.terms AS asked
          FROM {rows} m
          FULL JOIN (SELECT subject_id::uuid AS id,
                            (array_agg(after) FILTER (WHERE act = 'ledger.create_monitor'))[1]
                                AS terms,
                            bool_or(act = 'ledger.deactivate_monitor') AS is_off
                       FROM core_audit_event
                      WHERE organization_id = %(org)s AND subject_type = 'ledger.balancemonitor'
                        AND subject_id > %(after)s::uuid::text
                        AND subject_id <= %(upto)s::uuid::text
                        AND act IN ('ledger.create_monitor', 'ledger.deactivate_monitor')
                      GROUP BY subject_id) a ON a.id = m.id
          LEFT JOIN ledger_balance b
            ON b.organization_id = m.organization_id AND b.id = m.account_id
         CROSS JOIN LATERAL (
               SELECT jsonb_build_object(
                          'ledger_account', kassa_public_id('la', m.account_id),
                          'measure', m.measure, 'direction', m.direction,
                          'threshold', m.threshold_minor) AS terms) AS own
         WHERE m.id IS NULL OR b.id IS NULL OR a.id IS NULL OR m.is_active = a.is_off
            OR a.terms IS DISTINCT FROM own.terms
            OR m.triggered <> m.event_sequence OR (m.triggered = 0) <> (m.triggered_at IS NULL)
         ORDER BY COALESCE(m.id, a.id)
        """,
    ),
    # The newest counts, and what it was before stays. The audit trail has each one's number and the
    # digest of what it said (canonical JSON, as `operations.annotate_entry` leaves it there), but
    # for those that were imported. So what is taken out or written anew is told, the newest too.
    "ledger_entry_metadata_is_as_audited": by_entries("""
        SELECT %(org)s::uuid AS organization_id,
               kassa_public_id('je', COALESCE(m.entry_id, a.entry_id)) AS entry,
               CASE WHEN m.changed THEN 'not what was audited'
                    WHEN m.last > a.last THEN 'a version was never audited'
                    ELSE 'a version is gone' END AS what,
               COALESCE(m.versions, 0) AS versions, GREATEST(m.last, a.last) AS last
          FROM (SELECT h.entry_id, COUNT(*) AS versions, MAX(h.number) AS last,
                       BOOL_OR(said.digest <> encode(sha256(convert_to(
                           CASE jsonb_typeof(h.metadata)
                                WHEN 'object' THEN '{' || COALESCE(written.pairs, '') || '}'
                                ELSE h.metadata::text END, 'UTF8')), 'hex')) AS changed
                  FROM ledger_entry_metadata h
                 CROSS JOIN LATERAL (
                       SELECT string_agg(to_json(key)::text || ':' || value::text, ','
                                         ORDER BY key COLLATE "C") AS pairs
                         FROM jsonb_each(CASE jsonb_typeof(h.metadata)
                                              WHEN 'object' THEN h.metadata END)) AS written
                  LEFT JOIN LATERAL (
                       SELECT v.after ->> 'digest' AS digest
                         FROM core_audit_event v
                        WHERE v.organization_id = h.organization_id
                          AND v.subject_type = 'ledger.journalentry'
                          AND v.subject_id = h.entry_id::text
                          AND v.act = 'ledger.annotate_entry'
                          AND v.after ->> 'number' = h.number::text) AS said ON true
                 WHERE h.organization_id = %(org)s
                   AND h.entry_id > %(after)s AND h.entry_id <= %(upto)s
                 GROUP BY h.entry_id) m
          FULL JOIN (SELECT subject_id::uuid AS entry_id, MAX((after ->> 'number')::int) AS last
                       FROM core_audit_event
                      WHERE organization_id = %(org)s AND subject_type = 'ledger.journalentry'
                        AND subject_id > %(after)s::uuid::text
                        AND subject_id <= %(upto)s::uuid::text
                        AND act = 'ledger.annotate_entry'
                      GROUP BY subject_id) a ON a.entry_id = m.entry_id
         WHERE m.versions IS DISTINCT FROM GREATEST(m.last, a.last) OR m.changed
            -- What was imported came before all that was said here.
            OR m.last > a.last
         ORDER BY COALESCE(m.entry_id, a.entry_id)
    """),
}
