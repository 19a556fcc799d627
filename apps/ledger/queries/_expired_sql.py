"""
What holds reserve whose time is over, for reads of balances.

The counters of a balance count a hold until the sweeper, or whoever needs its money, has ended it.
A read shows what is reserved at an instant: it takes off what this says, in the same statement, so
that a hold that ends meanwhile is counted in both or in neither. Mostly there is none, and then
this is one look at the index of open holds by their time, whatever the number of balances.
"""

from typing import Final

# With `now` NULL there is none, and counters are told as they stand.
EXPIRED: Final = """
    expired AS MATERIALIZED (
        SELECT side.account_id, SUM(side.debits)::bigint AS debits,
               SUM(side.credits)::bigint AS credits
          FROM ledger_hold h
         CROSS JOIN LATERAL (VALUES
               (h.debit_account_id, h.amount_minor - h.captured_minor, 0),
               (h.credit_account_id, 0, h.amount_minor - h.captured_minor))
               AS side(account_id, debits, credits)
         WHERE h.organization_id = ANY(%(owners)s) AND h.status = 'open'
           AND h.expires_at <= %(now)s::timestamptz
         GROUP BY side.account_id
    )
"""
