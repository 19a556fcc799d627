import pytest

from apps.banking.formats import _nodes
from apps.banking.formats.problems import UnreadableFile
from apps.banking.formats.reading import read_bank_file

REPORT = """<?xml version="1.0"?>
<Document xmlns="{namespace}"><CstmrPmtStsRpt>
<GrpHdr><MsgId>ANSWER</MsgId></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>OURS</OrgnlMsgId><GrpSts>PART</GrpSts></OrgnlGrpInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>P1</OrgnlPmtInfId>
<TxInfAndSts><OrgnlInstrId>1</OrgnlInstrId><OrgnlEndToEndId>NOTPROVIDED</OrgnlEndToEndId>
<TxSts>RJCT</TxSts><StsRsnInf><Rsn><Cd>AC01</Cd></Rsn><AddtlInf>one</AddtlInf>
<AddtlInf>two</AddtlInf></StsRsnInf><StsRsnInf><Rsn><Prtry>X9</Prtry></Rsn></StsRsnInf></TxInfAndSts>
</OrgnlPmtInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>P2</OrgnlPmtInfId><PmtInfSts>ACSP</PmtInfSts>
</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"""
ISO = "urn:iso:std:iso:20022:tech:xsd:pain.002.001."
SWISS = "http://www.six-interbank-clearing.com/de/pain.002.001.03.ch.02.xsd"


@pytest.mark.parametrize("namespace", [*(f"{ISO}{n:02d}" for n in range(3, 12)), SWISS, ""])
def test_every_version_says_the_same(namespace):
    report = read_bank_file(REPORT.format(namespace=namespace).encode())

    assert (report.message_id, report.original_message_id) == ("ANSWER", "OURS")
    assert report.group_status == "PART"
    first, second = report.payments
    [transaction] = first.transactions
    assert (transaction.instruction_id, transaction.end_to_end_id) == ("1", None)
    assert transaction.status == "RJCT"
    assert [(each.code, each.text) for each in transaction.reasons] == [
        ("AC01", "one two"),
        ("X9", ""),
    ]
    assert (second.status, second.transactions) == ("ACSP", ())


def test_a_report_on_more_than_any_file_of_ours_is_refused(monkeypatch):
    monkeypatch.setattr(_nodes, "TRANSACTIONS_MAX", 2)
    body = "<OrgnlPmtInfAndSts>" + "<TxInfAndSts/>" * 3 + "</OrgnlPmtInfAndSts>"
    report = f'<Document xmlns="{ISO}03"><CstmrPmtStsRpt>{body}</CstmrPmtStsRpt></Document>'

    with pytest.raises(UnreadableFile) as refused:
        read_bank_file(report.encode())

    assert refused.value.problem.code == "file_too_large"


def test_a_report_about_nothing_is_refused():
    data = REPORT.format(namespace=f"{ISO}10")
    start, end = data.index("<OrgnlGrpInf"), data.index("</OrgnlGrpInfAndSts>") + 20

    with pytest.raises(UnreadableFile) as refusal:
        read_bank_file((data[:start] + data[end:]).encode(), name="answer.xml")

    assert (refusal.value.problem.code, refusal.value.problem.file) == ("malformed", "answer.xml")


def test_a_card_number_in_the_bank_s_words_is_masked():
    written = REPORT.format(namespace=ISO + "09").replace(">one<", ">card 4111111111111111<")

    report = read_bank_file(written.encode())

    [payment, _] = report.payments
    assert payment.transactions[0].reasons[0].text == "card ••••••••••••1111 two"
