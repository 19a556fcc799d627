import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0039_plain_transfers_are_apart_in_one_statement'),
    ]

    operations = [
        pgtrigger.migrations.AddTrigger(
            model_name='balance',
            trigger=pgtrigger.compiler.Trigger(name='balance_is_empty_when_closed', sql=apps.core.triggers.GuardSql(condition="WHEN (NEW.status = 'closed' AND (NEW.posted_debits <> NEW.posted_credits OR NEW.pending_debits <> 0 OR NEW.pending_credits <> 0))", func="RAISE EXCEPTION 'ledger account % is not empty, and is not closed', NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_is_empty_when_closed';", hash='462b7f41c3f3663e06d399bf94a562452ee26974', operation='UPDATE OF "status"', pgid='pgtrigger_balance_is_empty_when_closed_ca9b3', table='ledger_balance', when='AFTER')),
        ),
    ]
