IF OLD.received_at > now() - interval '400 days' THEN
    RAISE EXCEPTION 'a row of % is kept for 400 days', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'inbound_event_is_kept_for_400_days';
END IF;
RETURN OLD;
