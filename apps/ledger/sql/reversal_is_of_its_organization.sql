-- Stands for a foreign key (organization_id, reverses_id), which would need one more unique index
-- on the hottest table for the rarest of entries.
IF NOT EXISTS (SELECT FROM ledger_journal_entry AS original
                WHERE original.id = NEW.reverses_id
                  AND original.organization_id = NEW.organization_id) THEN
    RAISE EXCEPTION 'journal entry % reverses an entry its organisation does not have', NEW.id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'reversal_is_of_its_organization';
END IF;
RETURN NULL;
