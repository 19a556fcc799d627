IF NEW.sealed_body IS NOT NULL AND NEW.sealed_body IS DISTINCT FROM OLD.sealed_body THEN
    RAISE EXCEPTION 'the body of % is never another one', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'inbound_event_body_only_goes';
END IF;
RETURN NEW;
