-- An entry's postings sum to zero per currency (ledger.md, section 1), and all are written by one
-- statement: they are numbered 1..n in it, and (organization, entry, number) is unique, so a second
-- statement can add nothing to an old entry.
--
-- In place of foreign keys per row: entries and accounts are never deleted and never change
-- organisation or currency, so one set-based look is as safe and takes no lock on a hot account.
-- The two clocks are copies of the entry's, for reads that would otherwise join millions of rows.
--
-- A month that is closing or closed takes no entry, and neither does anything before it: months are
-- closed in order, and what came earlier is in their opening balances (ADR 0071). Who closes one
-- waits for every transaction that was under way when it said so, so what this statement cannot see
-- yet is waited for there, and no posting ever waits for a close.
--
-- One pass says whether all is well. Only where it is not, or entries have several currencies, is it
-- looked at again: which one it is, and what is wrong with it.
WITH entries AS MATERIALIZED (
    SELECT organization_id, entry_id, SUM(amount_minor) AS residue,
           MIN(number) = 1 AND MAX(number) = COUNT(*) AS is_numbered,
           MIN(currency) <> MAX(currency) AS is_mixed,
           MIN(effective_at) AS effective_at, MIN(recorded_at) AS recorded_at,
           MIN(effective_at) = MAX(effective_at) AND MIN(recorded_at) = MAX(recorded_at)
               AS is_of_one_time
      FROM written GROUP BY organization_id, entry_id
), earliest AS (
    SELECT organization_id, MIN(effective_at) AS effective_at FROM entries GROUP BY organization_id
)
SELECT bool_or(w.residue <> 0 OR NOT w.is_numbered) AS is_off,
       bool_or(w.is_mixed) AS is_mixed,
       bool_or(e.id IS NULL OR NOT w.is_of_one_time) AS is_foreign,
       EXISTS (SELECT FROM earliest JOIN ledger_period p
                  ON p.organization_id = earliest.organization_id
                 AND p.state <> 'open' AND earliest.effective_at < p.ends_at) AS is_late
  INTO seen
  FROM entries w
  LEFT JOIN ledger_journal_entry e
    ON e.organization_id = w.organization_id AND e.id = w.entry_id
   AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at;

IF seen.is_off OR seen.is_mixed THEN
    SELECT entry_id, residue, is_numbered, currencies INTO bad
      FROM (SELECT entry_id, SUM(amount_minor) AS residue,
                   MIN(number) = 1 AND MAX(number) = COUNT(*) AS is_numbered,
                   CASE WHEN MIN(currency) = MAX(currency) THEN MIN(currency) END AS currencies
              FROM written GROUP BY organization_id, entry_id) AS whole
     WHERE residue <> 0 OR NOT is_numbered
     LIMIT 1;
    IF NOT FOUND THEN
        SELECT entry_id, SUM(amount_minor) AS residue, TRUE AS is_numbered, currency AS currencies
          INTO bad
          FROM written
         GROUP BY organization_id, entry_id, currency HAVING SUM(amount_minor) <> 0
         LIMIT 1;
    END IF;
    IF FOUND AND NOT bad.is_numbered THEN
        RAISE EXCEPTION 'journal entry % is not written by one statement', bad.entry_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_written_once';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'journal entry % is off by % %', bad.entry_id, bad.residue,
                COALESCE(bad.currencies, 'in several currencies')
            USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_balanced';
    END IF;
END IF;

SELECT w.entry_id, w.account_id INTO bad
  FROM written w
  LEFT JOIN ledger_account a
    ON a.id = w.account_id AND a.organization_id = w.organization_id AND a.currency = w.currency
 WHERE a.id IS NULL
 LIMIT 1;
IF NOT FOUND AND seen.is_foreign THEN
    SELECT w.entry_id, w.account_id INTO bad
      FROM written w
      LEFT JOIN ledger_journal_entry e
        ON e.id = w.entry_id AND e.organization_id = w.organization_id
       AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at
     WHERE e.id IS NULL
     LIMIT 1;
END IF;
IF FOUND THEN
    RAISE EXCEPTION 'a posting of journal entry % on ledger account % names an entry or an account'
        ' that its organisation does not have in that currency and at those times',
        bad.entry_id, bad.account_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'posting_stays_in_its_organization';
END IF;

IF seen.is_late THEN
    SELECT p.month, w.entry_id INTO bad
      FROM ledger_period p
      JOIN written w ON w.organization_id = p.organization_id AND w.effective_at < p.ends_at
     WHERE p.state <> 'open'
     LIMIT 1;
    RAISE EXCEPTION 'journal entry % is of %, which is closed', bad.entry_id, bad.month
        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_in_an_open_period';
END IF;
RETURN NULL;
