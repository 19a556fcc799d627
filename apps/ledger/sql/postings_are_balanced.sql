-- An entry's postings sum to zero per currency (ledger.md, section 1).
SELECT entry_id, currency, SUM(amount_minor) AS residue INTO bad
  FROM written GROUP BY entry_id, currency HAVING SUM(amount_minor) <> 0 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'journal entry % is off by % %', bad.entry_id, bad.residue, bad.currency
        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_balanced';
END IF;

-- All postings of an entry are written by one statement: they are numbered 1..n in it, and
-- (organization, entry, number) is unique, so a second statement can add nothing to an old entry.
SELECT entry_id INTO bad
  FROM written GROUP BY entry_id HAVING MIN(number) <> 1 OR MAX(number) <> COUNT(*) LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'journal entry % is not written by one statement', bad.entry_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_written_once';
END IF;

-- In place of a foreign key per row: entries and accounts are never deleted and never change
-- organisation or currency, so one set-based look is as safe and takes no lock on a hot account.
SELECT w.entry_id, w.account_id INTO bad
  FROM written w
  LEFT JOIN ledger_journal_entry e
    ON e.id = w.entry_id AND e.organization_id = w.organization_id
  LEFT JOIN ledger_account a
    ON a.id = w.account_id AND a.organization_id = w.organization_id AND a.currency = w.currency
 WHERE e.id IS NULL OR a.id IS NULL
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'a posting of journal entry % on ledger account % names an entry or an account'
        ' that its organisation does not have in that currency', bad.entry_id, bad.account_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'posting_stays_in_its_organization';
END IF;
RETURN NULL;
