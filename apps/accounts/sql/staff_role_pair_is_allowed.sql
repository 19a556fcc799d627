-- The person's row serializes two grants at once: the statement after this lock sees the other one.
PERFORM 1 FROM accounts_staff WHERE id = NEW.staff_id FOR NO KEY UPDATE;

SELECT role INTO other
  FROM accounts_staffrole
 WHERE staff_id = NEW.staff_id
   AND id <> NEW.id
   AND role <> NEW.role
   AND (
         'admin' IN (role, NEW.role)
      OR ('auditor' IN (role, NEW.role) AND 'support_readonly' NOT IN (role, NEW.role))
   )
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'nobody holds both % and %', other, NEW.role
        USING ERRCODE = 'check_violation', CONSTRAINT = 'staff_role_pair_is_allowed';
END IF;
RETURN NEW;
