-- An entry's postings sum to zero per currency (ledger.md, section 1), and all are written by one
-- statement: they are numbered 1..n in it, and (organization, entry, number) is unique, so a second
-- statement can add nothing to an old entry. One pass for the many entries of one currency; those
-- of several are looked at per currency after it.
SELECT entry_id, residue, numbered, currencies INTO bad
  FROM (SELECT entry_id, SUM(amount_minor) AS residue,
               MIN(number) = 1 AND MAX(number) = COUNT(*) AS numbered,
               CASE WHEN MIN(currency) = MAX(currency) THEN MIN(currency) END AS currencies
          FROM written GROUP BY organization_id, entry_id) AS whole
 WHERE residue <> 0 OR NOT numbered
 LIMIT 1;
IF NOT FOUND THEN
    SELECT w.entry_id, SUM(w.amount_minor) AS residue, TRUE AS numbered, w.currency AS currencies
      INTO bad
      FROM written w
     WHERE w.entry_id IN (SELECT entry_id FROM written
                           GROUP BY organization_id, entry_id HAVING MIN(currency) <> MAX(currency))
     GROUP BY w.organization_id, w.entry_id, w.currency HAVING SUM(w.amount_minor) <> 0
     LIMIT 1;
END IF;
IF FOUND THEN
    IF NOT bad.numbered THEN
        RAISE EXCEPTION 'journal entry % is not written by one statement', bad.entry_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_written_once';
    END IF;
    RAISE EXCEPTION 'journal entry % is off by % %', bad.entry_id, bad.residue,
            COALESCE(bad.currencies, 'in several currencies')
        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_balanced';
END IF;

-- In place of a foreign key per row: entries and accounts are never deleted and never change
-- organisation or currency, so one set-based look is as safe and takes no lock on a hot account.
-- The two clocks are copies of the entry's, for reads that would otherwise join millions of rows.
SELECT w.entry_id, w.account_id INTO bad
  FROM written w
  LEFT JOIN ledger_journal_entry e
    ON e.id = w.entry_id AND e.organization_id = w.organization_id
   AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at
  LEFT JOIN ledger_account a
    ON a.id = w.account_id AND a.organization_id = w.organization_id AND a.currency = w.currency
 WHERE e.id IS NULL OR a.id IS NULL
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'a posting of journal entry % on ledger account % names an entry or an account'
        ' that its organisation does not have in that currency and at those times',
        bad.entry_id, bad.account_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'posting_stays_in_its_organization';
END IF;

-- A month that is closing or closed takes no entry, and neither does anything before it: months are
-- closed in order, and what came earlier is in their opening balances (ADR 0071). Who closes one
-- waits for every transaction that was under way when it said so, so what this statement cannot see
-- yet is waited for there, and no posting ever waits for a close.
SELECT p.month, w.entry_id INTO bad
  FROM ledger_period p
  JOIN written w
    ON w.organization_id = p.organization_id
   AND w.effective_at < p.ends_at
 WHERE p.state <> 'open'
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'journal entry % is of %, which is closed', bad.entry_id, bad.month
        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_in_an_open_period';
END IF;
RETURN NULL;
