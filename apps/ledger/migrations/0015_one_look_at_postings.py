
import apps.core.triggers
import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_guards_look_at_named_columns'),
        ('ledger', '0014_lists_are_found_by_indexes'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='balance',
            name='balance_is_of_its_account',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='balancemonitor',
            name='balance_monitor_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='hold',
            name='hold_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='ledgeraccount',
            name='ledger_account_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='period',
            name='period_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='posting',
            name='postings_are_balanced',
        ),
        migrations.AlterField(
            model_name='journalentry',
            name='organization',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='balance',
            trigger=pgtrigger.compiler.Trigger(name='balance_is_of_its_account', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."credit_normal" IS DISTINCT FROM NEW."credit_normal" THEN RAISE EXCEPTION \'%: id, organization_id, currency, credit_normal never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'balance_is_of_its_account\'; END IF; RETURN NEW;', hash='713805e1756ee130add129ca1ff10ddd7c4fc9c1', operation='UPDATE OF "id", "organization_id", "currency", "credit_normal"', pgid='pgtrigger_balance_is_of_its_account_573b4', table='ledger_balance', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='balancemonitor',
            trigger=pgtrigger.compiler.Trigger(name='balance_monitor_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."account_id" IS DISTINCT FROM NEW."account_id" OR OLD."measure" IS DISTINCT FROM NEW."measure" OR OLD."direction" IS DISTINCT FROM NEW."direction" OR OLD."threshold_minor" IS DISTINCT FROM NEW."threshold_minor" THEN RAISE EXCEPTION \'%: id, organization_id, account_id, measure, direction, threshold_minor never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'balance_monitor_is_what_it_was\'; END IF; RETURN NEW;', hash='768aef6a709ade393941bf23ef37212e41c870a2', operation='UPDATE OF "id", "organization_id", "account_id", "measure", "direction", "threshold_minor"', pgid='pgtrigger_balance_monitor_is_what_it_was_d177f', table='ledger_balance_monitor', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='hold',
            trigger=pgtrigger.compiler.Trigger(name='hold_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."debit_account_id" IS DISTINCT FROM NEW."debit_account_id" OR OLD."credit_account_id" IS DISTINCT FROM NEW."credit_account_id" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."multi_capture" IS DISTINCT FROM NEW."multi_capture" OR OLD."reference" IS DISTINCT FROM NEW."reference" OR OLD."expires_at" IS DISTINCT FROM NEW."expires_at" THEN RAISE EXCEPTION \'%: id, organization_id, debit_account_id, credit_account_id, currency, amount_minor, multi_capture, reference, expires_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'hold_is_what_it_was\'; END IF; RETURN NEW;', hash='21f46674386b0691f6426cd6d706a3e2841243f3', operation='UPDATE OF "id", "organization_id", "debit_account_id", "credit_account_id", "currency", "amount_minor", "multi_capture", "reference", "expires_at"', pgid='pgtrigger_hold_is_what_it_was_86887', table='ledger_hold', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='ledgeraccount',
            trigger=pgtrigger.compiler.Trigger(name='ledger_account_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."code" IS DISTINCT FROM NEW."code" OR OLD."type" IS DISTINCT FROM NEW."type" OR OLD."currency" IS DISTINCT FROM NEW."currency" THEN RAISE EXCEPTION \'%: id, organization_id, code, type, currency never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'ledger_account_is_what_it_was\'; END IF; RETURN NEW;', hash='368de981d9730d41e2c13be21a216597e987c52e', operation='UPDATE OF "id", "organization_id", "code", "type", "currency"', pgid='pgtrigger_ledger_account_is_what_it_was_87b55', table='ledger_account', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='period',
            trigger=pgtrigger.compiler.Trigger(name='period_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."month" IS DISTINCT FROM NEW."month" OR OLD."starts_at" IS DISTINCT FROM NEW."starts_at" OR OLD."ends_at" IS DISTINCT FROM NEW."ends_at" THEN RAISE EXCEPTION \'%: id, organization_id, month, starts_at, ends_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'period_is_what_it_was\'; END IF; RETURN NEW;', hash='b5f00a079a96dfedeed778ec431a911bc6116a03', operation='UPDATE OF "id", "organization_id", "month", "starts_at", "ends_at"', pgid='pgtrigger_period_is_what_it_was_e7477', table='ledger_period', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='posting',
            trigger=pgtrigger.compiler.Trigger(name='postings_are_balanced', sql=apps.core.triggers.GuardSql(declare='DECLARE seen record; bad record;', func="-- An entry's postings sum to zero per currency (ledger.md, section 1), and all are written by one\n-- statement: they are numbered 1..n in it, and (organization, entry, number) is unique, so a second\n-- statement can add nothing to an old entry.\n--\n-- In place of foreign keys per row: entries and accounts are never deleted and never change\n-- organisation or currency, so one set-based look is as safe and takes no lock on a hot account.\n-- The two clocks are copies of the entry's, for reads that would otherwise join millions of rows.\n--\n-- A month that is closing or closed takes no entry, and neither does anything before it: months are\n-- closed in order, and what came earlier is in their opening balances (ADR 0071). Who closes one\n-- waits for every transaction that was under way when it said so, so what this statement cannot see\n-- yet is waited for there, and no posting ever waits for a close.\n--\n-- One pass says whether all is well. Only where it is not, or entries have several currencies, is it\n-- looked at again: which one it is, and what is wrong with it.\nWITH entries AS MATERIALIZED (\n    SELECT organization_id, entry_id, SUM(amount_minor) AS residue,\n           MIN(number) = 1 AND MAX(number) = COUNT(*) AS is_numbered,\n           MIN(currency) <> MAX(currency) AS is_mixed,\n           MIN(effective_at) AS effective_at, MIN(recorded_at) AS recorded_at,\n           MIN(effective_at) = MAX(effective_at) AND MIN(recorded_at) = MAX(recorded_at)\n               AS is_of_one_time\n      FROM written GROUP BY organization_id, entry_id\n), earliest AS (\n    SELECT organization_id, MIN(effective_at) AS effective_at FROM entries GROUP BY organization_id\n)\nSELECT bool_or(w.residue <> 0 OR NOT w.is_numbered) AS is_off,\n       bool_or(w.is_mixed) AS is_mixed,\n       bool_or(e.id IS NULL OR NOT w.is_of_one_time) AS is_foreign,\n       EXISTS (SELECT FROM earliest JOIN ledger_period p\n                  ON p.organization_id = earliest.organization_id\n                 AND p.state <> 'open' AND earliest.effective_at < p.ends_at) AS is_late\n  INTO seen\n  FROM entries w\n  LEFT JOIN ledger_journal_entry e\n    ON e.organization_id = w.organization_id AND e.id = w.entry_id\n   AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at;\n\nIF seen.is_off OR seen.is_mixed THEN\n    SELECT entry_id, residue, is_numbered, currencies INTO bad\n      FROM (SELECT entry_id, SUM(amount_minor) AS residue,\n                   MIN(number) = 1 AND MAX(number) = COUNT(*) AS is_numbered,\n                   CASE WHEN MIN(currency) = MAX(currency) THEN MIN(currency) END AS currencies\n              FROM written GROUP BY organization_id, entry_id) AS whole\n     WHERE residue <> 0 OR NOT is_numbered\n     LIMIT 1;\n    IF NOT FOUND THEN\n        SELECT entry_id, SUM(amount_minor) AS residue, TRUE AS is_numbered, currency AS currencies\n          INTO bad\n          FROM written\n         GROUP BY organization_id, entry_id, currency HAVING SUM(amount_minor) <> 0\n         LIMIT 1;\n    END IF;\n    IF FOUND AND NOT bad.is_numbered THEN\n        RAISE EXCEPTION 'journal entry % is not written by one statement', bad.entry_id\n            USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_written_once';\n    ELSIF FOUND THEN\n        RAISE EXCEPTION 'journal entry % is off by % %', bad.entry_id, bad.residue,\n                COALESCE(bad.currencies, 'in several currencies')\n            USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_balanced';\n    END IF;\nEND IF;\n\nSELECT w.entry_id, w.account_id INTO bad\n  FROM written w\n  LEFT JOIN ledger_account a\n    ON a.id = w.account_id AND a.organization_id = w.organization_id AND a.currency = w.currency\n WHERE a.id IS NULL\n LIMIT 1;\nIF NOT FOUND AND seen.is_foreign THEN\n    SELECT w.entry_id, w.account_id INTO bad\n      FROM written w\n      LEFT JOIN ledger_journal_entry e\n        ON e.id = w.entry_id AND e.organization_id = w.organization_id\n       AND e.effective_at = w.effective_at AND e.recorded_at = w.recorded_at\n     WHERE e.id IS NULL\n     LIMIT 1;\nEND IF;\nIF FOUND THEN\n    RAISE EXCEPTION 'a posting of journal entry % on ledger account % names an entry or an account'\n        ' that its organisation does not have in that currency and at those times',\n        bad.entry_id, bad.account_id\n        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'posting_stays_in_its_organization';\nEND IF;\n\nIF seen.is_late THEN\n    SELECT p.month, w.entry_id INTO bad\n      FROM ledger_period p\n      JOIN written w ON w.organization_id = p.organization_id AND w.effective_at < p.ends_at\n     WHERE p.state <> 'open'\n     LIMIT 1;\n    RAISE EXCEPTION 'journal entry % is of %, which is closed', bad.entry_id, bad.month\n        USING ERRCODE = 'check_violation', CONSTRAINT = 'journal_entry_is_in_an_open_period';\nEND IF;\nRETURN NULL;\n", hash='aef63cf6a2f015bf56c0725b6bd590560d5ab084', level='STATEMENT', operation='INSERT', pgid='pgtrigger_postings_are_balanced_577f3', referencing='REFERENCING NEW TABLE AS written ', table='ledger_posting', when='AFTER')),
        ),
    ])
