
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('reconciliation', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='break',
            name='break_keeps_its_cause',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='match',
            name='match_is_of_its_line',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='openingbalance',
            name='opening_is_what_the_statement_said',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='break',
            trigger=pgtrigger.compiler.Trigger(name='break_keeps_its_cause', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."kind" IS DISTINCT FROM NEW."kind" OR OLD."bank_line_id" IS DISTINCT FROM NEW."bank_line_id" OR OLD."statement_id" IS DISTINCT FROM NEW."statement_id" THEN RAISE EXCEPTION \'%: id, organization_id, kind, bank_line_id, statement_id never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'break_keeps_its_cause\'; END IF; RETURN NEW;', hash='2e57148611a2186581ebc2dc748c6547d967aa1f', operation='UPDATE OF "id", "organization_id", "kind", "bank_line_id", "statement_id"', pgid='pgtrigger_break_keeps_its_cause_83ac2', table='reconciliation_break', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='match',
            trigger=pgtrigger.compiler.Trigger(name='match_is_of_its_line', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."bank_line_id" IS DISTINCT FROM NEW."bank_line_id" OR OLD."bank_line_detail_id" IS DISTINCT FROM NEW."bank_line_detail_id" OR OLD."rule" IS DISTINCT FROM NEW."rule" THEN RAISE EXCEPTION \'%: id, organization_id, bank_line_id, bank_line_detail_id, rule never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'match_is_of_its_line\'; END IF; RETURN NEW;', hash='eeb766863aa626284520971096fbe7e698e3f83f', operation='UPDATE OF "id", "organization_id", "bank_line_id", "bank_line_detail_id", "rule"', pgid='pgtrigger_match_is_of_its_line_d308c', table='reconciliation_match', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='openingbalance',
            trigger=pgtrigger.compiler.Trigger(name='opening_is_what_the_statement_said', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."bank_account_id" IS DISTINCT FROM NEW."bank_account_id" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."currency" IS DISTINCT FROM NEW."currency" THEN RAISE EXCEPTION \'%: id, organization_id, bank_account_id, amount_minor, currency never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'opening_is_what_the_statement_said\'; END IF; RETURN NEW;', hash='c2b1b68b0f4af1f0fbe8813d42a456328d7227f3', operation='UPDATE OF "id", "organization_id", "bank_account_id", "amount_minor", "currency"', pgid='pgtrigger_opening_is_what_the_statement_said_ad26c', table='reconciliation_opening', when='BEFORE')),
        ),
    ])
