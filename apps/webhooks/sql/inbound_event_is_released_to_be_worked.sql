IF OLD.outcome = 'ignored' AND NEW.outcome = 'received'
   AND (NEW.state <> 'pending' OR NEW.sealed_body IS NULL) THEN
    RAISE EXCEPTION 'what was ignored in % comes back pending, and with its body', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = 'inbound_event_is_released_to_be_worked';
END IF;
RETURN NEW;
