from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from sepaxml import SepaTransfer

from apps.banking.formats import pain001
from apps.banking.formats.characters import convert
from apps.banking.formats.pain001 import Address, CreditTransfer, PaymentOrder
from apps.banking.formats.pain001_reader import differences, read_back
from apps.banking.formats.problems import UnreadableFile

PAYMENT = CreditTransfer(
    instruction_id="1",
    end_to_end_id="0" * 31 + "1",
    amount_minor=12_34,
    creditor_name="Ada Lovelace",
    creditor_iban="NL91ABNA0417164300",
    remittance="Invoice 17",
)
ORDER = PaymentOrder(
    message_id="018f2e2e7c6a7b0e9d1c2b3a4f5e6d7c",
    payment_information_id="018f2e2e7c6a7b0e9d1c2b3a4f5e6d7c-1",
    created_at=datetime(2026, 3, 2, 15, 1, 2, 999, tzinfo=UTC),
    execution_date=date(2026, 3, 3),
    debtor_name="Kassa Demo GmbH",
    debtor_iban="DE89370400440532013000",
    debtor_bic="COBADEFFXXX",
    debtor_address=Address(town="Berlin", country="DE"),
    is_batch_booked=True,
    is_instant=False,
    transfers=(PAYMENT,),
)

texts = st.text(alphabet="abcXYZ019/-?:().,'+ ", min_size=1, max_size=70).filter(
    lambda text: text.strip(". ")
)
addresses = st.none() | st.builds(
    Address,
    town=texts.map(lambda text: text[:35]).filter(lambda text: text.strip(". ")),
    country=st.sampled_from(["DE", "FI"]),
    street=st.none() | texts,
    lines=st.lists(texts, max_size=2).map(tuple),
)
payments = st.builds(
    CreditTransfer,
    instruction_id=st.just("1"),
    end_to_end_id=st.uuids().map(lambda id_: id_.hex),
    amount_minor=st.integers(1, pain001.AMOUNT_MINOR_MAX),
    creditor_name=texts,
    creditor_iban=st.sampled_from(["NL91ABNA0417164300", "FI2112345600000785"]),
    creditor_bic=st.none() | st.just("ABNANL2A"),
    creditor_address=addresses,
    remittance=st.none() | texts,
    creditor_reference=st.none() | st.just("RF18539007547034"),
)


def texts_at(data, path):
    root = etree.fromstring(data)
    return [
        node.text for node in root.iterfind("/".join(f"{{*}}{name}" for name in path.split("/")))
    ]


def with_payment(**changes):
    return replace(ORDER, transfers=(replace(PAYMENT, **changes),))


class TestTheFile:
    @given(
        st.lists(payments, min_size=1, max_size=5, unique_by=lambda each: each.end_to_end_id),
        st.booleans(),
    )
    def test_is_valid_and_reads_back_as_its_rows(self, transfers, instant):
        order = replace(ORDER, transfers=tuple(transfers), is_instant=instant)

        data = pain001.write(order)

        pain001.validate(data)
        written = read_back(data)
        assert differences(order, written) == []
        assert (written.count, written.sum_minor) == (len(transfers), order.total_minor)

    def test_is_the_same_bytes_wherever_the_clock_is_read(self):
        elsewhere = ORDER.created_at.astimezone(timezone(timedelta(hours=9)))

        assert pain001.write(ORDER) == pain001.write(replace(ORDER, created_at=elsewhere))

    def test_carries_what_the_scheme_wants(self):
        data = pain001.write(ORDER)

        group, block = "CstmrCdtTrfInitn/GrpHdr/", "CstmrCdtTrfInitn/PmtInf/"
        assert texts_at(data, group + "CreDtTm") == ["2026-03-02T15:01:02Z"]
        assert texts_at(data, group + "CtrlSum") == ["12.34"] == texts_at(data, block + "CtrlSum")
        assert texts_at(data, block + "PmtTpInf/SvcLvl/Cd") == ["SEPA"]
        assert texts_at(data, block + "ChrgBr") == ["SLEV"]
        assert texts_at(data, block + "ReqdExctnDt/Dt") == ["2026-03-03"]
        assert texts_at(data, block + "Dbtr/PstlAdr/TwnNm") == ["Berlin"]
        assert texts_at(data, block + "CdtTrfTxInf/PmtId/InstrId") == ["1"]
        assert texts_at(data, block + "CdtTrfTxInf/CdtrAgt") == []

    def test_says_when_a_bank_is_not_given(self):
        data = pain001.write(replace(ORDER, debtor_bic=None))

        pain001.validate(data)
        assert texts_at(data, "CstmrCdtTrfInitn/PmtInf/DbtrAgt/FinInstnId/Othr/Id") == [
            "NOTPROVIDED"
        ]

    def test_takes_the_reference_before_the_text(self):
        data = pain001.write(with_payment(creditor_reference="RF18539007547034"))

        pain001.validate(data)
        path = "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/RmtInf/"
        assert texts_at(data, path + "Strd/CdtrRefInf/Ref") == ["RF18539007547034"]
        assert texts_at(data, path + "Ustrd") == []

    def test_writes_the_name_of_the_design_s_example(self):
        name = convert("Łukasz & Søn <b>" + "x" * 80, length_max=pain001.NAME_MAX)

        data = pain001.write(with_payment(creditor_name=name.text))

        pain001.validate(data)
        [written] = texts_at(data, "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/Cdtr/Nm")
        assert written.startswith("Lukasz + Son .b.x")
        assert len(written) == 70

    def test_carries_the_same_payments_as_another_writer_s(self):
        other = SepaTransfer(
            {
                "name": ORDER.debtor_name,
                "IBAN": ORDER.debtor_iban,
                "BIC": ORDER.debtor_bic,
                "batch": True,
                "currency": "EUR",
            },
            schema="pain.001.001.09",
        )
        transfers = tuple(
            replace(PAYMENT, instruction_id=str(n), end_to_end_id=f"{n:032x}", amount_minor=n * 7)
            for n in range(1, 20)
        )
        for transfer in transfers:
            other.add_payment(
                {
                    "name": transfer.creditor_name,
                    "IBAN": transfer.creditor_iban,
                    "amount": transfer.amount_minor,
                    "execution_date": ORDER.execution_date,
                    "description": transfer.remittance,
                    "endtoend_id": transfer.end_to_end_id,
                }
            )

        ours = pain001.write(replace(ORDER, transfers=transfers))

        theirs = other.export(validate=False)
        block = "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/"
        for path in (
            "PmtId/EndToEndId",
            "Amt/InstdAmt",
            "Cdtr/Nm",
            "CdtrAcct/Id/IBAN",
            "RmtInf/Ustrd",
        ):
            assert texts_at(ours, block + path) == texts_at(theirs, block + path)
        assert read_back(ours).sum_minor == int(
            Decimal(texts_at(theirs, "CstmrCdtTrfInitn/GrpHdr/CtrlSum")[0]) * 100
        )


class TestTheWriter:
    @pytest.mark.parametrize(
        "order",
        [
            replace(ORDER, transfers=()),
            replace(ORDER, transfers=(PAYMENT, PAYMENT)),
            replace(ORDER, message_id="/x"),
            replace(ORDER, message_id="x/"),
            replace(ORDER, message_id="x//y"),
            replace(ORDER, message_id="x" * 36),
            replace(ORDER, message_id=""),
            replace(ORDER, created_at=datetime(2026, 3, 2)),  # noqa: DTZ001
            with_payment(amount_minor=0),
            with_payment(amount_minor=-1),
            with_payment(amount_minor=10**11),
            with_payment(creditor_name="Søn"),
            with_payment(creditor_name="..."),
            with_payment(creditor_name="x" * 71),
            with_payment(remittance="x" * 141),
            with_payment(end_to_end_id="a b/"),
        ],
    )
    def test_refuses_rather_than_changes(self, order):
        with pytest.raises(UnreadableFile) as refusal:
            pain001.write(order)

        assert refusal.value.problem.code == "payment_unfit"

    def test_has_its_result_refused_where_the_schema_says_no(self):
        data = pain001.write(with_payment(creditor_iban="nothing"))

        with pytest.raises(UnreadableFile) as refusal:
            pain001.validate(data)

        assert refusal.value.problem.code == "schema_violation"


class TestTheSecondReader:
    @pytest.mark.parametrize(
        ("right", "wrong", "expected"),
        [
            (b">12.34</InstdAmt>", b">12.35</InstdAmt>", ["sum", "payment"]),
            (b"NL91ABNA0417164300", b"FI2112345600000785", ["payment"]),
            (PAYMENT.end_to_end_id.encode(), b"f" * 32, ["payment", "payment"]),
            (b"<NbOfTxs>1<", b"<NbOfTxs>2<", ["stated count"]),
            (b"<CtrlSum>12.34<", b"<CtrlSum>12.33<", ["stated sum"]),
            (b"018f2e2e7c6a7b0e9d1c2b3a4f5e6d7c<", b"x<", ["message id"]),
        ],
    )
    def test_sees_each_difference(self, right, wrong, expected):
        data = pain001.write(ORDER)
        assert right in data

        found = differences(ORDER, read_back(data.replace(right, wrong)))

        assert [line.split(":")[0].split(" 0")[0].split(" f")[0] for line in found] == expected
