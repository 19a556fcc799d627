"""Who the examples are about, and when; what answers have in common."""

from typing import Any, Final

ANN: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7ta"
BOB: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tb"
FEES: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tc"
DOLLARS: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7td"
EUROS_OWNED: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7te"
DOLLARS_OWNED: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tf"
TRANSFER: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xa"
ENTRY: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xb"
CAPTURE: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xc"
REVERSAL: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xd"
SOLD: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xe"
BOUGHT: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xf"
REVERSAL_OF_BOUGHT: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xg"
HOLD: Final = "ho_01kb1n5t2wd7r8x9a1c3e5g7ja"
MORNING: Final = "2026-11-02T09:30:00Z"
NOON: Final = "2026-11-02T12:00:00Z"
EVENING: Final = "2026-11-02T18:00:00Z"
# A hold that has not ended whenever somebody reads it, and may still be asked for.
SOME_DAY: Final = "2099-12-31T18:00:00Z"
# A quote is of the moment: half a minute before what is done by it.
QUOTED: Final = "2026-11-02T09:29:30Z"


def after(account: str, version: int, available: int) -> dict[str, Any]:
    return {
        "ledger_account": account,
        "version": version,
        "posted": available,
        "available": available,
    }
