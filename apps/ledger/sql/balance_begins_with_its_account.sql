-- A balance is made with its account and at nothing: postings find the account by it, and are
-- numbered from one on. What it says of the account never changes afterwards, and neither goes.
SELECT b.id INTO bad
  FROM opened b
  LEFT JOIN ledger_account a
    ON a.organization_id = b.organization_id AND a.id = b.id AND a.currency = b.currency
   AND b.credit_normal = (a.type IN ('liability', 'equity', 'income'))
 WHERE a.id IS NULL
    OR (b.version, b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits)
       <> (0, 0, 0, 0, 0)
    OR b.latest_effective_at IS NOT NULL
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'balance % is not that of a ledger account as it is opened', bad
        USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_begins_with_its_account';
END IF;
RETURN NULL;
