
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('approvals', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='approvalpolicy',
            name='approval_policy_is_what_was_proposed',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='approvalrequest',
            name='approval_request_is_what_was_asked',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='approvalpolicy',
            trigger=pgtrigger.compiler.Trigger(name='approval_policy_is_what_was_proposed', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."act" IS DISTINCT FROM NEW."act" OR OLD."version" IS DISTINCT FROM NEW."version" OR OLD."terms" IS DISTINCT FROM NEW."terms" OR OLD."proposed_by" IS DISTINCT FROM NEW."proposed_by" THEN RAISE EXCEPTION \'%: id, organization_id, act, version, terms, proposed_by never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'approval_policy_is_what_was_proposed\'; END IF; RETURN NEW;', hash='5bcdc5406a8e8d20ab74eaf5b211c4fa41adb9e5', operation='UPDATE OF "id", "organization_id", "act", "version", "terms", "proposed_by"', pgid='pgtrigger_approval_policy_is_what_was_proposed_52f5b', table='approvals_policy', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='approvalrequest',
            trigger=pgtrigger.compiler.Trigger(name='approval_request_is_what_was_asked', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."act" IS DISTINCT FROM NEW."act" OR OLD."subject_type" IS DISTINCT FROM NEW."subject_type" OR OLD."subject_id" IS DISTINCT FROM NEW."subject_id" OR OLD."steps" IS DISTINCT FROM NEW."steps" OR OLD."snapshot_digest" IS DISTINCT FROM NEW."snapshot_digest" OR OLD."requester_principal" IS DISTINCT FROM NEW."requester_principal" OR OLD."requested_at" IS DISTINCT FROM NEW."requested_at" OR OLD."expires_at" IS DISTINCT FROM NEW."expires_at" THEN RAISE EXCEPTION \'%: id, organization_id, act, subject_type, subject_id, steps, snapshot_digest, requester_principal, requested_at, expires_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'approval_request_is_what_was_asked\'; END IF; RETURN NEW;', hash='ac263031a211919256ef2bc87ca8c9fe8db0c4b1', operation='UPDATE OF "id", "organization_id", "act", "subject_type", "subject_id", "steps", "snapshot_digest", "requester_principal", "requested_at", "expires_at"', pgid='pgtrigger_approval_request_is_what_was_asked_069cf', table='approvals_request', when='BEFORE')),
        ),
    ])
