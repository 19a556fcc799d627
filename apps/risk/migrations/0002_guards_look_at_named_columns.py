
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('risk', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='fact',
            name='fact_is_what_happened',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='limit',
            name='limit_is_what_was_set',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='fact',
            trigger=pgtrigger.compiler.Trigger(name='fact_is_what_happened', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."subject_type" IS DISTINCT FROM NEW."subject_type" OR OLD."subject_id" IS DISTINCT FROM NEW."subject_id" OR OLD."turn" IS DISTINCT FROM NEW."turn" OR OLD."kind" IS DISTINCT FROM NEW."kind" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."occurred_at" IS DISTINCT FROM NEW."occurred_at" THEN RAISE EXCEPTION \'%: id, organization_id, subject_type, subject_id, turn, kind, amount_minor, currency, customer_id, occurred_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'fact_is_what_happened\'; END IF; RETURN NEW;', hash='01f9d3268d9b409c652d47b122288362c2d8669c', operation='UPDATE OF "id", "organization_id", "subject_type", "subject_id", "turn", "kind", "amount_minor", "currency", "customer_id", "occurred_at"', pgid='pgtrigger_fact_is_what_happened_701c2', table='risk_fact', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='limit',
            trigger=pgtrigger.compiler.Trigger(name='limit_is_what_was_set', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."scope" IS DISTINCT FROM NEW."scope" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."act" IS DISTINCT FROM NEW."act" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."window" IS DISTINCT FROM NEW."window" OR OLD."zone" IS DISTINCT FROM NEW."zone" OR OLD."max_amount_minor" IS DISTINCT FROM NEW."max_amount_minor" OR OLD."max_count" IS DISTINCT FROM NEW."max_count" OR OLD."net_of_returns" IS DISTINCT FROM NEW."net_of_returns" OR OLD."set_at" IS DISTINCT FROM NEW."set_at" THEN RAISE EXCEPTION \'%: id, organization_id, scope, customer_id, act, currency, window, zone, max_amount_minor, max_count, net_of_returns, set_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'limit_is_what_was_set\'; END IF; RETURN NEW;', hash='33c512cccb3db094638a64dca6cfe39b78bebd22', operation='UPDATE OF "id", "organization_id", "scope", "customer_id", "act", "currency", "window", "zone", "max_amount_minor", "max_count", "net_of_returns", "set_at"', pgid='pgtrigger_limit_is_what_was_set_b05ac', table='risk_limit', when='BEFORE')),
        ),
    ])
