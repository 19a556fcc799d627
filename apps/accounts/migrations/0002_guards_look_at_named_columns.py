
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='apikey',
            name='api_key_is_what_was_issued',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='customer',
            name='customer_stays_with_its_organization',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='organization',
            name='organization_keeps_its_mode',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='apikey',
            trigger=pgtrigger.compiler.Trigger(name='api_key_is_what_was_issued', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."key_id" IS DISTINCT FROM NEW."key_id" OR OLD."secret_digest" IS DISTINCT FROM NEW."secret_digest" OR OLD."scopes" IS DISTINCT FROM NEW."scopes" OR OLD."kassa_version" IS DISTINCT FROM NEW."kassa_version" OR OLD."issued_by_id" IS DISTINCT FROM NEW."issued_by_id" OR OLD."created_at" IS DISTINCT FROM NEW."created_at" THEN RAISE EXCEPTION \'%: id, organization_id, key_id, secret_digest, scopes, kassa_version, issued_by_id, created_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'api_key_is_what_was_issued\'; END IF; RETURN NEW;', hash='b1532f896ef15c0af5b0bc6e72cab5884edc9d04', operation='UPDATE OF "id", "organization_id", "key_id", "secret_digest", "scopes", "kassa_version", "issued_by_id", "created_at"', pgid='pgtrigger_api_key_is_what_was_issued_ed320', table='accounts_apikey', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='customer_stays_with_its_organization', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."created_at" IS DISTINCT FROM NEW."created_at" THEN RAISE EXCEPTION \'%: id, organization_id, created_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'customer_stays_with_its_organization\'; END IF; RETURN NEW;', hash='68a895dc91c6a793e67fdf05a1598b80e9080d27', operation='UPDATE OF "id", "organization_id", "created_at"', pgid='pgtrigger_customer_stays_with_its_organization_abb5d', table='accounts_customer', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='organization',
            trigger=pgtrigger.compiler.Trigger(name='organization_keeps_its_mode', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."mode" IS DISTINCT FROM NEW."mode" OR OLD."live_twin_id" IS DISTINCT FROM NEW."live_twin_id" THEN RAISE EXCEPTION \'%: id, mode, live_twin_id never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'organization_keeps_its_mode\'; END IF; RETURN NEW;', hash='a4ae11f2115dc216b522644d82cad28440f3faa4', operation='UPDATE OF "id", "mode", "live_twin_id"', pgid='pgtrigger_organization_keeps_its_mode_9540f', table='accounts_organization', when='BEFORE')),
        ),
    ])
