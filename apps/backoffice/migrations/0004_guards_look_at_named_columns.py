
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('backoffice', '0003_invariants_are_gone_through_in_runs'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='correction',
            name='correction_is_what_was_asked',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='correction',
            trigger=pgtrigger.compiler.Trigger(name='correction_is_what_was_asked', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."kind" IS DISTINCT FROM NEW."kind" OR OLD."entry_id" IS DISTINCT FROM NEW."entry_id" OR OLD."at" IS DISTINCT FROM NEW."at" OR OLD."legs" IS DISTINCT FROM NEW."legs" OR OLD."reference" IS DISTINCT FROM NEW."reference" OR OLD."description" IS DISTINCT FROM NEW."description" OR OLD."effective_at" IS DISTINCT FROM NEW."effective_at" OR OLD."reason" IS DISTINCT FROM NEW."reason" OR OLD."requested_by" IS DISTINCT FROM NEW."requested_by" OR OLD."requested_at" IS DISTINCT FROM NEW."requested_at" THEN RAISE EXCEPTION \'%: id, organization_id, kind, entry_id, at, legs, reference, description, effective_at, reason, requested_by, requested_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'correction_is_what_was_asked\'; END IF; RETURN NEW;', hash='612d444e306d01e7939fdc9b3c6e8739523fdecb', operation='UPDATE OF "id", "organization_id", "kind", "entry_id", "at", "legs", "reference", "description", "effective_at", "reason", "requested_by", "requested_at"', pgid='pgtrigger_correction_is_what_was_asked_0d4af', table='backoffice_correction', when='BEFORE')),
        ),
    ])
