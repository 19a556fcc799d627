
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('webhooks', '0002_lanes_stay_hot'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='webhookdelivery',
            name='webhook_delivery_is_what_is_owed',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='webhookendpoint',
            name='webhook_endpoint_stays_with_its_organization',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='webhookdelivery',
            trigger=pgtrigger.compiler.Trigger(name='webhook_delivery_is_what_is_owed', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."endpoint_id" IS DISTINCT FROM NEW."endpoint_id" OR OLD."event_id" IS DISTINCT FROM NEW."event_id" OR OLD."api_version" IS DISTINCT FROM NEW."api_version" THEN RAISE EXCEPTION \'%: id, organization_id, endpoint_id, event_id, api_version never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'webhook_delivery_is_what_is_owed\'; END IF; RETURN NEW;', hash='3957555a1c7202f03ada54c0c479bdcc7fd475e2', operation='UPDATE OF "id", "organization_id", "endpoint_id", "event_id", "api_version"', pgid='pgtrigger_webhook_delivery_is_what_is_owed_5dfa5', table='webhooks_webhookdelivery', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='webhookendpoint',
            trigger=pgtrigger.compiler.Trigger(name='webhook_endpoint_stays_with_its_organization', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."created_at" IS DISTINCT FROM NEW."created_at" THEN RAISE EXCEPTION \'%: id, organization_id, created_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'webhook_endpoint_stays_with_its_organization\'; END IF; RETURN NEW;', hash='dc52e5b663c2121d545dbef6fec3e05006e0c907', operation='UPDATE OF "id", "organization_id", "created_at"', pgid='pgtrigger_webhook_endpoint_stays_with_its_organization_f0e40', table='webhooks_webhookendpoint', when='BEFORE')),
        ),
    ])
