import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):
    """What was ignored may come back, pending and with its body, and in no other way."""

    dependencies = [
        ('accounts', '0003_contacts'),
        ('webhooks', '0010_lanes_change_at_rest'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='inboundevent',
            name='inbound_event_moves',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='inboundevent',
            trigger=pgtrigger.compiler.Trigger(name='inbound_event_moves', sql=apps.core.triggers.GuardSql(func='IF OLD."outcome" IS DISTINCT FROM NEW."outcome" AND (OLD."outcome", NEW."outcome") NOT IN ((\'ignored\', \'received\'), (\'parked\', \'applied\'), (\'parked\', \'ignored\'), (\'parked\', \'superseded\'), (\'parked\', \'unmatched\'), (\'received\', \'applied\'), (\'received\', \'ignored\'), (\'received\', \'parked\'), (\'received\', \'superseded\'), (\'received\', \'unmatched\'), (\'unmatched\', \'applied\'), (\'unmatched\', \'ignored\'), (\'unmatched\', \'superseded\')) THEN RAISE EXCEPTION \'%: % does not become %\', TG_TABLE_NAME, OLD."outcome", NEW."outcome" USING ERRCODE = \'check_violation\', CONSTRAINT = \'inbound_event_moves\'; END IF; RETURN NEW;', hash='97ab899e98971936c06566c235a6d9aac759b22f', operation='UPDATE OF "outcome"', pgid='pgtrigger_inbound_event_moves_8f927', table='webhooks_inboundevent', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='inboundevent',
            trigger=pgtrigger.compiler.Trigger(name='inbound_event_is_released_to_be_worked', sql=apps.core.triggers.GuardSql(func="IF OLD.outcome = 'ignored' AND NEW.outcome = 'received'\n   AND (NEW.state <> 'pending' OR NEW.sealed_body IS NULL) THEN\n    RAISE EXCEPTION 'what was ignored in % comes back pending, and with its body', TG_TABLE_NAME\n        USING ERRCODE = 'check_violation', CONSTRAINT = 'inbound_event_is_released_to_be_worked';\nEND IF;\nRETURN NEW;\n", hash='d266f55c57a8d14229fa0eb18c20fb547a4a35c0', operation='UPDATE OF "outcome"', pgid='pgtrigger_inbound_event_is_released_to_be_worked_08c21', table='webhooks_inboundevent', when='BEFORE')),
        ),
    ])
