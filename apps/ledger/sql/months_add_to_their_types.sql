-- What an account's month came to is also part of what its type's came to, in its currency. It is
-- added by whoever writes the month, in the same transaction, so that the two never disagree.
INSERT INTO ledger_type_total AS total
    (organization_id, clock, month, currency, type, debits_minor, credits_minor, postings)
SELECT changed.organization_id, changed.clock, changed.month, account.currency, account.type,
       SUM(changed.debits_minor), SUM(changed.credits_minor), SUM(changed.postings)
  FROM {changed} AS changed
  JOIN ledger_account AS account
    ON account.organization_id = changed.organization_id AND account.id = changed.account_id
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (organization_id, clock, month, currency, type) DO UPDATE
   SET debits_minor = total.debits_minor + excluded.debits_minor,
       credits_minor = total.credits_minor + excluded.credits_minor,
       postings = total.postings + excluded.postings;
RETURN NULL;
