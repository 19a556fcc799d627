-- An entry's postings sum to zero per currency (ledger.md, section 1), and all are written by one
-- statement: they are numbered 1..n in it, and (organization, entry, number) is unique, so a second
-- statement can add nothing to an old entry.
--
-- An account's postings are numbered without a gap: those of a statement follow each other, and the
-- last one's number is where the account's balance stands, which moves in the same statement or
-- before it. That it stood at the one before their first nobody looks up: a look for each account
-- costs more than all the rest of this (ADR 0121).
--
-- In place of foreign keys per row: entries and accounts are never deleted and never change
-- organisation or currency, so one set-based look is as safe and takes no lock on a hot account. An
-- account is looked for by its balance, which has its id, organisation and currency (a guard).
-- The two clocks are copies of the entry's, for reads that would otherwise join millions of rows.
--
-- A month that is closing or closed takes no entry, and neither does anything before it: months are
-- closed in order, and what came earlier is in their opening balances (ADR 0071). Who closes one
-- waits for every transaction that was under way when it said so, so what this statement cannot see
-- yet is waited for there, and no posting ever waits for a close.
--
-- Most statements write one entry of two postings. Those are looked at one after the other, and what
-- they name by its key: to begin the looks that go through thousands costs them four times as much
-- (ADR 0185). Here is only ever said yes. Whatever is otherwise is gone through below.
FOR posting IN SELECT * FROM written LOOP
    many := many + 1;
    is_pair := many = 1 OR many = 2
        AND (posting.organization_id, posting.entry_id, posting.currency,
             posting.effective_at, posting.recorded_at)
          = (other.organization_id, other.entry_id, other.currency,
             other.effective_at, other.recorded_at)
        AND posting.amount_minor::numeric + other.amount_minor = 0
        AND least(posting.number, other.number) = 1
        AND greatest(posting.number, other.number) = 2;
    IF is_pair THEN
        PERFORM FROM ledger_balance b
          WHERE b.organization_id = posting.organization_id AND b.id = posting.account_id
            AND b.currency = posting.currency AND b.version = posting.account_version;
        is_pair := FOUND;
    END IF;
    EXIT WHEN NOT is_pair;
    other := posting;
END LOOP;
IF is_pair AND many = 2 THEN
    PERFORM FROM ledger_journal_entry e
      WHERE e.organization_id = other.organization_id AND e.id = other.entry_id
        AND e.effective_at = other.effective_at AND e.recorded_at = other.recorded_at;
    IF FOUND THEN
        PERFORM FROM ledger_period p
          WHERE p.organization_id = other.organization_id
            AND p.state <> 'open' AND other.effective_at < p.ends_at;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
END IF;

-- One pass says whether all is well. An entry of several currencies or times falls into several
-- groups there, whose numbers then are not whole. Only where something is off is it looked at again:
-- which one it is, and what is wrong with it.
WITH entries AS MATERIALIZED (
    SELECT organization_id, entry_id, effective_at, recorded_at,
           SUM(amount_minor) <> 0 OR MIN(number) <> 1 OR MAX(number) <> COUNT(*) AS is_off
      FROM written GROUP BY organization_id, entry_id, effective_at, recorded_at, currency
), earliest AS (
    SELECT organization_id, MIN(effective_at) AS effective_at FROM entries GROUP BY organization_id
)
SELECT bool_or(w.is_off) AS is_off, bool_or(e.id IS NULL) AS is_foreign,
       EXISTS (SELECT FROM earliest JOIN ledger_period p
                  ON p.organization_id = earliest.organization_id
                 AND p.state <> 'open' AND earliest.effective_at < p.ends_at) AS is_late
  INTO seen
  FROM entries w
  LEFT JOIN ledger_journal_entry e
    ON e.organization_id = w.organization_id AND e.id = w.entry_id
   AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at;

IF seen.is_off THEN
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

SELECT w.account_id, w.first_version, w.last_version INTO apart
  FROM (SELECT organization_id, account_id, currency, MIN(account_version) AS first_version,
               MAX(account_version) AS last_version, COUNT(*) AS postings
          FROM written GROUP BY organization_id, account_id, currency) AS w
  LEFT JOIN ledger_balance b
    ON b.organization_id = w.organization_id AND b.id = w.account_id
 WHERE b.id IS NULL OR b.currency <> w.currency OR b.version <> w.last_version
    OR w.last_version - w.postings <> w.first_version - 1
 LIMIT 1;
IF FOUND THEN
    SELECT w.entry_id, w.account_id INTO bad
      FROM written w
      LEFT JOIN ledger_balance b
        ON b.id = w.account_id AND b.organization_id = w.organization_id AND b.currency = w.currency
     WHERE b.id IS NULL
     LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'postings % to % of ledger account % leave a gap, or end where its balance'
            ' does not stand', apart.first_version, apart.last_version, apart.account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'posting_versions_have_no_gap';
    END IF;
ELSIF seen.is_foreign THEN
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
