import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0007_customers_are_found_by_their_time'),
        ('ledger', '0039_plain_transfers_are_apart_in_one_statement'),
    ]

    # What stands is looked at by the next one, which nobody waits for.
    operations = together([
        migrations.RemoveConstraint(
            model_name='hold',
            name='hold_open_iff_something_is_left',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='balance',
            trigger=pgtrigger.compiler.Trigger(name='balance_is_empty_when_closed', sql=apps.core.triggers.GuardSql(condition="WHEN (NEW.status = 'closed' AND (NEW.posted_debits <> NEW.posted_credits OR NEW.pending_debits <> 0 OR NEW.pending_credits <> 0))", func="RAISE EXCEPTION 'ledger account % is not empty, and is not closed', NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_is_empty_when_closed';", hash='462b7f41c3f3663e06d399bf94a562452ee26974', operation='UPDATE OF "status"', pgid='pgtrigger_balance_is_empty_when_closed_ca9b3', table='ledger_balance', when='AFTER')),
        ),
        AddConstraintNotValid(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('status', 'captured'), ('captured_minor__lt', models.F('amount_minor')), _connector='OR'), name='hold_is_captured_iff_nothing_is_left'),
        ),
        AddConstraintNotValid(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('debit_account', models.F('credit_account')), _negated=True), name='hold_names_two_accounts'),
        ),
    ])
