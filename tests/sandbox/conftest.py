from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lxml import etree

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared" / "data" / "bank-files" / "xsd"
OURS = "DE89370400440532013000"

TRANSFER = """
      <CdtTrfTxInf>
        <PmtId><InstrId>{number}</InstrId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId>
        <Amt><InstdAmt Ccy="EUR">{amount}</InstdAmt></Amt>
        <Cdtr><Nm>Ada Lovelace</Nm></Cdtr>
        <CdtrAcct><Id><IBAN>FI2112345600000785</IBAN></Id></CdtrAcct>
        <RmtInf><Ustrd>Payout {number}</Ustrd></RmtInf>
      </CdtTrfTxInf>"""
FILE = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09">
  <CstmrCdtTrfInitn>
    <GrpHdr>
      <MsgId>{message_id}</MsgId><CreDtTm>2026-11-20T10:00:00Z</CreDtTm>
      <NbOfTxs>{count}</NbOfTxs><CtrlSum>{total}</CtrlSum>
      <InitgPty><Nm>Example Ltd</Nm></InitgPty>
    </GrpHdr>
    <PmtInf>
      <PmtInfId>{message_id}-1</PmtInfId><PmtMtd>TRF</PmtMtd><BtchBookg>{batch}</BtchBookg>
      <ReqdExctnDt><Dt>{day}</Dt></ReqdExctnDt>
      <Dbtr><Nm>Example Ltd</Nm></Dbtr>
      <DbtrAcct><Id><IBAN>{iban}</IBAN></Id></DbtrAcct>
      <DbtrAgt><FinInstnId><Othr><Id>NOTPROVIDED</Id></Othr></FinInstnId></DbtrAgt>{transfers}
    </PmtInf>
  </CstmrCdtTrfInitn>
</Document>
"""


def payment_file(
    *, message_id="MSG1", amounts=("100.00", "25.50"), batch="false", day="2026-12-04", total=None
):
    """A pain.001 with one transfer per amount; their EndToEndIds are E1, E2 and on."""
    transfers = "".join(
        TRANSFER.format(number=number, end_to_end_id=f"E{number}", amount=amount)
        for number, amount in enumerate(amounts, start=1)
    )
    cents = sum(int(amount.replace(".", "")) for amount in amounts)
    return FILE.format(
        message_id=message_id,
        count=len(amounts),
        total=total or f"{cents // 100}.{cents % 100:02d}",
        batch=batch,
        day=day,
        iban=OURS,
        transfers=transfers,
    ).encode()


def run_sandbox(database, *arguments):
    """Run one command of the sandbox as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", "--database", str(database), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answers_of(completed):
    """The JSON lines of a command, each with the file it wrote, parsed."""
    assert completed.returncode == 0, completed.stderr
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    return [line | {"tree": Tree(Path(line["path"]).read_bytes())} for line in lines]


class Tree:
    """A document read by local names, so that a test need not care for versions."""

    def __init__(self, content):
        self.content = content
        self.root = etree.fromstring(content)

    def all(self, path):
        steps = "/".join(f"*[local-name()='{step}']" for step in path.split("/"))
        return [(found.text or "").strip() for found in self.root.xpath(f"//{steps}")]

    def one(self, path):
        [found] = self.all(path)
        return found


def assert_valid(tree, schema_name, *, namespace=None):
    """Check a document against ISO's schema, or skip saying that the schema is not here."""
    path = SCHEMAS / schema_name
    if not path.exists():
        pytest.skip(f"{schema_name} is not here: {SCHEMAS} holds the schemas of ISO 20022")
    content = tree.content
    if namespace:
        content = content.replace(namespace[0], namespace[1])
    schema = etree.XMLSchema(etree.parse(path))
    schema.assertValid(etree.fromstring(content))


class Bank:
    """A sandbox server in a process of its own, spoken to over HTTP."""

    def __init__(self, database):
        self.database = database
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--database", self.database, "serve", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        # The line is written once the socket listens; its end is the address.
        self.url = self.process.stdout.readline().split()[-1]

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def call(self, method, path, body=None, timeout=20):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        # The address is the one that our own process printed.
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path):
        return json.loads(self.call("GET", path)[1])

    def post(self, path, body, timeout=20):
        status, answer = self.call("POST", path, body, timeout)
        return status, json.loads(answer)

    def misbehave(self, behavior, *, match=None, times=1, **options):
        status, _ = self.post(
            "/control",
            {"behaviour": behavior, "match": match or {}, "times": times, "options": options},
        )
        assert status == 201

    def files(self, kind=None, after=0):
        listed = self.get(f"/bank/files?after={after}")["files"]
        return [
            each | {"tree": Tree(self.call("GET", f"/bank/files/{each['id']}")[1])}
            for each in listed
            if kind in {None, each["kind"]}
        ]


@pytest.fixture
def database(tmp_path):
    return tmp_path / "sandbox.sqlite3"


@pytest.fixture
def bank(database):
    server = Bank(database)
    yield server
    server.kill()
