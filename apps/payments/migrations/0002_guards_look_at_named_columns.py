
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='payment',
            name='payment_is_what_came',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='unmatchedmoney',
            name='unmatched_money_is_what_came',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='virtualreference',
            name='virtual_reference_is_for_ever',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='payment_is_what_came', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."entry_id" IS DISTINCT FROM NEW."entry_id" OR OLD."bank_line_id" IS DISTINCT FROM NEW."bank_line_id" OR OLD."bank_line_detail_id" IS DISTINCT FROM NEW."bank_line_detail_id" THEN RAISE EXCEPTION \'%: id, organization_id, customer_id, amount_minor, currency, entry_id, bank_line_id, bank_line_detail_id never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'payment_is_what_came\'; END IF; RETURN NEW;', hash='9c2d3ab66d2e22d534cc925b4e3973112cffc87d', operation='UPDATE OF "id", "organization_id", "customer_id", "amount_minor", "currency", "entry_id", "bank_line_id", "bank_line_detail_id"', pgid='pgtrigger_payment_is_what_came_3121c', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='unmatchedmoney',
            trigger=pgtrigger.compiler.Trigger(name='unmatched_money_is_what_came', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."bank_line_id" IS DISTINCT FROM NEW."bank_line_id" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."currency" IS DISTINCT FROM NEW."currency" THEN RAISE EXCEPTION \'%: id, organization_id, bank_line_id, amount_minor, currency never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'unmatched_money_is_what_came\'; END IF; RETURN NEW;', hash='b083c45d761b20485a24706861ebfc29b9d02bbc', operation='UPDATE OF "id", "organization_id", "bank_line_id", "amount_minor", "currency"', pgid='pgtrigger_unmatched_money_is_what_came_681d2', table='payments_unmatched_money', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='virtualreference',
            trigger=pgtrigger.compiler.Trigger(name='virtual_reference_is_for_ever', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."reference" IS DISTINCT FROM NEW."reference" OR OLD."currency" IS DISTINCT FROM NEW."currency" THEN RAISE EXCEPTION \'%: id, organization_id, customer_id, reference, currency never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'virtual_reference_is_for_ever\'; END IF; RETURN NEW;', hash='00886f176844617d1673b1f9c9fb3261d37005c6', operation='UPDATE OF "id", "organization_id", "customer_id", "reference", "currency"', pgid='pgtrigger_virtual_reference_is_for_ever_b59e8', table='payments_virtual_reference', when='BEFORE')),
        ),
    ])
