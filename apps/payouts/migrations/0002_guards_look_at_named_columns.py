
import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ('payouts', '0001_initial'),
    ]

    operations = together([
        pgtrigger.migrations.RemoveTrigger(
            model_name='destination',
            name='destination_is_one_customers',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='destinationversion',
            name='destination_version_is_what_it_was',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='payout',
            name='payout_is_what_was_asked',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='payoutattempt',
            name='payout_attempt_is_what_was_frozen',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='payoutbatch',
            name='payout_batch_is_what_was_frozen',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='destination',
            trigger=pgtrigger.compiler.Trigger(name='destination_is_one_customers', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."created_at" IS DISTINCT FROM NEW."created_at" THEN RAISE EXCEPTION \'%: id, organization_id, customer_id, created_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'destination_is_one_customers\'; END IF; RETURN NEW;', hash='33fb37b1f7a6bac27f4ad6c64d476be9c919c484', operation='UPDATE OF "id", "organization_id", "customer_id", "created_at"', pgid='pgtrigger_destination_is_one_customers_1c3da', table='payouts_destination', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='destinationversion',
            trigger=pgtrigger.compiler.Trigger(name='destination_version_is_what_it_was', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."destination_id" IS DISTINCT FROM NEW."destination_id" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."number" IS DISTINCT FROM NEW."number" OR OLD."fingerprint" IS DISTINCT FROM NEW."fingerprint" OR OLD."iban_tail" IS DISTINCT FROM NEW."iban_tail" OR OLD."country" IS DISTINCT FROM NEW."country" OR OLD."bic" IS DISTINCT FROM NEW."bic" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."holder_digest" IS DISTINCT FROM NEW."holder_digest" OR OLD."address_digest" IS DISTINCT FROM NEW."address_digest" OR OLD."created_at" IS DISTINCT FROM NEW."created_at" THEN RAISE EXCEPTION \'%: id, organization_id, destination_id, customer_id, number, fingerprint, iban_tail, country, bic, currency, holder_digest, address_digest, created_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'destination_version_is_what_it_was\'; END IF; RETURN NEW;', hash='c0d4388f7f585c1f78e036303ed952daebfd230d', operation='UPDATE OF "id", "organization_id", "destination_id", "customer_id", "number", "fingerprint", "iban_tail", "country", "bic", "currency", "holder_digest", "address_digest", "created_at"', pgid='pgtrigger_destination_version_is_what_it_was_b8b95', table='payouts_destination_version', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payout',
            trigger=pgtrigger.compiler.Trigger(name='payout_is_what_was_asked', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."customer_id" IS DISTINCT FROM NEW."customer_id" OR OLD."destination_id" IS DISTINCT FROM NEW."destination_id" OR OLD."destination_version_id" IS DISTINCT FROM NEW."destination_version_id" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."rail" IS DISTINCT FROM NEW."rail" OR OLD."requester_principal" IS DISTINCT FROM NEW."requester_principal" OR OLD."requested_at" IS DISTINCT FROM NEW."requested_at" THEN RAISE EXCEPTION \'%: id, organization_id, customer_id, destination_id, destination_version_id, currency, rail, requester_principal, requested_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'payout_is_what_was_asked\'; END IF; RETURN NEW;', hash='7368b7e6c77874213b1c093561523a44a258ac2c', operation='UPDATE OF "id", "organization_id", "customer_id", "destination_id", "destination_version_id", "currency", "rail", "requester_principal", "requested_at"', pgid='pgtrigger_payout_is_what_was_asked_379f8', table='payouts_payout', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payoutattempt',
            trigger=pgtrigger.compiler.Trigger(name='payout_attempt_is_what_was_frozen', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."payout_id" IS DISTINCT FROM NEW."payout_id" OR OLD."batch_id" IS DISTINCT FROM NEW."batch_id" OR OLD."destination_version_id" IS DISTINCT FROM NEW."destination_version_id" OR OLD."number_in_file" IS DISTINCT FROM NEW."number_in_file" OR OLD."amount_minor" IS DISTINCT FROM NEW."amount_minor" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."end_to_end_id" IS DISTINCT FROM NEW."end_to_end_id" THEN RAISE EXCEPTION \'%: id, organization_id, payout_id, batch_id, destination_version_id, number_in_file, amount_minor, currency, end_to_end_id never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'payout_attempt_is_what_was_frozen\'; END IF; RETURN NEW;', hash='3e9c07327bf5210534f8802204b9e33c06092d1a', operation='UPDATE OF "id", "organization_id", "payout_id", "batch_id", "destination_version_id", "number_in_file", "amount_minor", "currency", "end_to_end_id"', pgid='pgtrigger_payout_attempt_is_what_was_frozen_8d71c', table='payouts_attempt', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payoutbatch',
            trigger=pgtrigger.compiler.Trigger(name='payout_batch_is_what_was_frozen', sql=apps.core.triggers.GuardSql(func='IF OLD."id" IS DISTINCT FROM NEW."id" OR OLD."organization_id" IS DISTINCT FROM NEW."organization_id" OR OLD."bank_account_id" IS DISTINCT FROM NEW."bank_account_id" OR OLD."currency" IS DISTINCT FROM NEW."currency" OR OLD."rail" IS DISTINCT FROM NEW."rail" OR OLD."execution_date" IS DISTINCT FROM NEW."execution_date" OR OLD."message_id" IS DISTINCT FROM NEW."message_id" OR OLD."payment_information_id" IS DISTINCT FROM NEW."payment_information_id" OR OLD."attempt_count" IS DISTINCT FROM NEW."attempt_count" OR OLD."total_minor" IS DISTINCT FROM NEW."total_minor" OR OLD."frozen_at" IS DISTINCT FROM NEW."frozen_at" THEN RAISE EXCEPTION \'%: id, organization_id, bank_account_id, currency, rail, execution_date, message_id, payment_information_id, attempt_count, total_minor, frozen_at never change\', TG_TABLE_NAME USING ERRCODE = \'restrict_violation\', CONSTRAINT = \'payout_batch_is_what_was_frozen\'; END IF; RETURN NEW;', hash='27c61edba6a15787dc4d2fcb1092056697cc3a27', operation='UPDATE OF "id", "organization_id", "bank_account_id", "currency", "rail", "execution_date", "message_id", "payment_information_id", "attempt_count", "total_minor", "frozen_at"', pgid='pgtrigger_payout_batch_is_what_was_frozen_09a46', table='payouts_batch', when='BEFORE')),
        ),
    ])
