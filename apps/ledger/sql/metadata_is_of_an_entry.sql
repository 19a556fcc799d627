-- Entries are never deleted, so one look is as safe as a foreign key, and locks nothing.
IF NOT EXISTS (SELECT FROM ledger_journal_entry AS entry
                WHERE entry.organization_id = NEW.organization_id AND entry.id = NEW.entry_id) THEN
    RAISE EXCEPTION 'metadata for journal entry %, which its organisation does not have', NEW.entry_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'metadata_is_of_an_entry';
END IF;
RETURN NULL;
