"""The one way in: which format is it, and what does it say."""

import re
from typing import Final

from apps.banking.formats import secure_xml
from apps.banking.formats.camt import read_camt
from apps.banking.formats.pain002 import read_status_report
from apps.banking.formats.problems import UnreadableFile, refuse
from apps.banking.formats.values import CamtFile, Kind, StatusReport

_MESSAGE: Final = re.compile(r"(camt\.05[34]|pain\.002)\.001\.(\d\d)")
_ANY_MESSAGE: Final = re.compile(r"[a-z]{4}\.\d{3}\.\d{3}\.\d\d")
# A file whose namespace says nothing is known by its second element.
_BY_ELEMENT: Final = {
    "BkToCstmrStmt": Kind.STATEMENT,
    "BkToCstmrDbtCdtNtfctn": Kind.NOTIFICATION,
    "CstmrPmtStsRpt": Kind.STATUS_REPORT,
}
# The first versions name and nest their elements otherwise.
_VERSION_MIN: Final = {Kind.STATEMENT: 2, Kind.NOTIFICATION: 2, Kind.STATUS_REPORT: 3}


def read_bank_file(data: bytes, *, name: str = "") -> CamtFile | StatusReport:
    """
    Read a file the bank sent: camt.053, camt.054 or pain.002, of any version of their shape.

    Nothing is checked beyond what reading needs; see `checks`.

    :raises UnreadableFile: naming file, statement, entry and line where they are known
    """
    try:
        kind, version = detect(data)
        if kind == Kind.STATUS_REPORT:
            return read_status_report(data, version=version)
        return read_camt(data, kind=kind, version=version)
    except UnreadableFile as fault:
        raise fault.within(file=name) from fault


def detect(data: bytes) -> tuple[Kind, str]:
    """
    Return the kind of file and its message version, such as `camt.053.001.08`.

    :raises UnreadableFile: `unknown_format` with the format's name, or as `secure_xml.events`
    """
    namespace, root, element = secure_xml.root_of(data)
    message = _MESSAGE.search(namespace)
    if message is not None:
        kind = Kind(message[1])
        if int(message[2]) >= _VERSION_MIN[kind]:
            return kind, message[0]
    elif element in _BY_ELEMENT and not namespace:
        kind = _BY_ELEMENT[element]
        return kind, kind.value
    other = _ANY_MESSAGE.search(namespace)
    format_name = other[0] if other else namespace or root
    raise refuse(
        "unknown_format", f"Files of the format {format_name} are not read.", format=format_name
    )
