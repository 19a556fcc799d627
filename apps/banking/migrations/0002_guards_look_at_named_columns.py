
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('banking', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='bankaccount',
            name='bank_account_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='bankconnection',
            name='bank_connection_keeps_its_channel',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='bankfile',
            name='bank_file_is_what_came',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='banklinestatus',
            name='bank_line_status_is_of_its_line',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='bankstatement',
            name='bank_statement_says_what_it_said',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='bankaccount',
            trigger=pgtrigger.compiler.Trigger(name='bank_account_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."ledger_account_id" IS DISTINCT FROM NEW."ledger_account_id" OR OLD."identification_index" IS DISTINCT FROM NEW."identification_index" OR OLD."identification_tail" IS DISTINCT FROM NEW."identification_tail" OR OLD."currency" IS DISTINCT FROM NEW."currency" THEN RAISE EXCEPTION \'%: id, organization_id, ledger_account_id, identification_index, identification_tail, currency never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'bank_account_is_what_it_was\'; END IF; RETURN NEW;', hash='e2b39b582c9030998e10dc6f00bfdb292be254af', operation='UPDATE OF "id", "organization_id", "ledger_account_id", "identification_index", "identification_tail", "currency"', pgid='pgtrigger_bank_account_is_what_it_was_51905', table='banking_account', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='bankconnection',
            trigger=pgtrigger.compiler.Trigger(name='bank_connection_keeps_its_channel', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."channel" IS DISTINCT FROM NEW."channel" THEN RAISE EXCEPTION \'%: id, organization_id, channel never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'bank_connection_keeps_its_channel\'; END IF; RETURN NEW;', hash='f0b430f6b6ddf1da0cd428cd5474dea4a22f1248', operation='UPDATE OF "id", "organization_id", "channel"', pgid='pgtrigger_bank_connection_keeps_its_channel_64f2f', table='banking_connection', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='bankfile',
            trigger=pgtrigger.compiler.Trigger(name='bank_file_is_what_came', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."direction" IS DISTINCT FROM NEW."direction" OR OLD."sha256" IS DISTINCT FROM NEW."sha256" OR OLD."byte_count" IS DISTINCT FROM NEW."byte_count" THEN RAISE EXCEPTION \'%: id, organization_id, direction, sha256, byte_count never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'bank_file_is_what_came\'; END IF; RETURN NEW;', hash='1a1611b37a3b66b244c396a9b9eb4d234af0f6b6', operation='UPDATE OF "id", "organization_id", "direction", "sha256", "byte_count"', pgid='pgtrigger_bank_file_is_what_came_0e8ad', table='banking_file', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='banklinestatus',
            trigger=pgtrigger.compiler.Trigger(name='bank_line_status_is_of_its_line', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."line_id" IS DISTINCT FROM NEW."line_id" OR OLD."bank_account_id" IS DISTINCT FROM NEW."bank_account_id" OR OLD."booking_date" IS DISTINCT FROM NEW."booking_date" THEN RAISE EXCEPTION \'%: id, organization_id, line_id, bank_account_id, booking_date never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'bank_line_status_is_of_its_line\'; END IF; RETURN NEW;', hash='c519a90136b1ec622abee29974b652c911cba898', operation='UPDATE OF "id", "organization_id", "line_id", "bank_account_id", "booking_date"', pgid='pgtrigger_bank_line_status_is_of_its_line_d3c39', table='banking_line_status', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='bankstatement',
            trigger=pgtrigger.compiler.Trigger(name='bank_statement_says_what_it_said', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."bank_file_id" IS DISTINCT FROM NEW."bank_file_id" OR OLD."statement_id" IS DISTINCT FROM NEW."statement_id" OR OLD."opening_minor" IS DISTINCT FROM NEW."opening_minor" OR OLD."closing_minor" IS DISTINCT FROM NEW."closing_minor" OR OLD."opening_date" IS DISTINCT FROM NEW."opening_date" OR OLD."closing_date" IS DISTINCT FROM NEW."closing_date" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."lines_digest" IS DISTINCT FROM NEW."lines_digest" THEN RAISE EXCEPTION \'%: id, organization_id, bank_file_id, statement_id, opening_minor, closing_minor, opening_date, closing_date, currency, lines_digest never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'bank_statement_says_what_it_said\'; END IF; RETURN NEW;', hash='aac23a157db4b5f2c6bfd033e68225df05eb3c2b', operation='UPDATE OF "id", "organization_id", "bank_file_id", "statement_id", "opening_minor", "closing_minor", "opening_date", "closing_date", "currency", "lines_digest"', pgid='pgtrigger_bank_statement_says_what_it_said_f2b28', table='banking_statement', when='BEFORE')),
        ),
    ])
