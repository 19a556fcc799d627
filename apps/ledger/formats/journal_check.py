"""A journal checked whole before any of it is imported: order, sums, versions, balances, hashes."""

from dataclasses import dataclass, field

from apps.ledger.formats.journal import (
    FORMAT,
    AccountLine,
    EntryLine,
    HeaderLine,
    Line,
    MetadataLine,
    PostingLine,
)
from apps.ledger.rules import CREDIT_NORMAL, AccountStatus, AccountType, chain


class WrongLine(ValueError):
    """What is wrong with a line, for the person who has the file."""


@dataclass(slots=True)
class _Account:
    line: AccountLine
    credit_normal: bool
    version: int = 0
    balance: int = 0


@dataclass(slots=True)
class JournalCheck:
    """
    What the lines so far come to. It keeps a row per account, and positions that others name.

    `hash_at` is the hash of the link at `standing`, so that who has so many entries can compare.
    """

    standing: int = 0
    hash_at: bytes = b""
    header: HeaderLine | None = None
    entries: int = 0
    previous: bytes = chain.GENESIS
    reversed: set[int] = field(default_factory=set)
    later: dict[int, int] = field(default_factory=dict)
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _types: dict[str, str] = field(default_factory=dict)

    @property
    def accounts(self) -> list[AccountLine]:
        """The accounts of the file."""
        return [account.line for account in self._accounts.values()]

    def read(self, line: Line) -> None:
        """
        Check the next line.

        :raises WrongLine: if it is not what may follow
        """
        match line:
            case HeaderLine():
                self._header(line)
            case AccountLine():
                self._account(line)
            case EntryLine():
                self._entry(line)
            case MetadataLine():
                self._metadata(line)

    def close(self) -> None:
        """
        Check that the file is whole, and that balances keep the floors they end with.

        :raises WrongLine: if it is not
        """
        header = self.header
        if header is None:
            raise WrongLine("it is empty")
        if (len(self._accounts), self.entries) != (header.accounts, header.entries):
            raise WrongLine(
                f"it ends after {len(self._accounts)} accounts and {self.entries} entries,"
                f" and its header promises {header.accounts} and {header.entries}"
            )
        if self.previous.hex() != header.hash:
            raise WrongLine(f"its last hash is not {header.hash}, which the header promises")
        for code, account in self._accounts.items():
            floor = account.line.min_available
            if floor is not None and account.balance < floor:
                raise WrongLine(f"{code} ends at {account.balance}, below its floor {floor}")

    def _header(self, line: HeaderLine) -> None:
        if self.header is not None:
            raise WrongLine("a second header")
        if line.format != FORMAT:
            raise WrongLine(f"the format is {line.format!r}, not {FORMAT!r}")
        self.header = line

    def _account(self, line: AccountLine) -> None:
        self._follows_header()
        if self.entries:
            raise WrongLine("an account after the first entry")
        if line.code in self._accounts:
            raise WrongLine(f"{line.code} is there twice")
        if line.account_type not in set(AccountType) or line.status not in set(AccountStatus):
            raise WrongLine(f"an account of type {line.account_type!r}, status {line.status!r}")
        self._accounts[line.code] = _Account(line, line.account_type in CREDIT_NORMAL)
        self._types[line.code] = line.account_type

    def _entry(self, line: EntryLine) -> None:
        self._follows_header()
        if self.later:
            raise WrongLine("an entry after later metadata")
        if line.position != self.entries + 1:
            raise WrongLine(f"position {line.position} follows {self.entries}")
        self._reversal(line)
        totals: dict[str, int] = {}
        for posting in line.postings:
            self._posting(posting)
            totals[posting.currency] = totals.get(posting.currency, 0) + posting.amount
        if any(totals.values()) or len({p.account for p in line.postings}) != len(line.postings):
            raise WrongLine("postings sum to 0 per currency, and name each account once")
        self.previous = chain.link(self.previous, line.position, line.content(self._types))
        if self.previous.hex() != line.hash:
            raise WrongLine("the hash is not that of this entry after the one before")
        self.entries = line.position
        if self.entries == self.standing:
            self.hash_at = self.previous

    def _reversal(self, line: EntryLine) -> None:
        if line.reverses is not None:
            if line.reverses > self.entries or line.reverses in self.reversed:
                raise WrongLine(f"position {line.reverses} is not there, or was reversed before")
            self.reversed.add(line.reverses)

    def _posting(self, posting: PostingLine) -> None:
        account = self._accounts.get(posting.account)
        if account is None or account.line.currency != posting.currency or not posting.amount:
            raise WrongLine(f"a posting of {posting.amount} {posting.currency} on"
                            f" {posting.account}, which the file does not have so")  # fmt: skip
        account.version += 1
        account.balance += -posting.amount if account.credit_normal else posting.amount
        if (posting.version, posting.balance_after) != (account.version, account.balance):
            raise WrongLine(
                f"{posting.account} is at version {account.version} and {account.balance} after"
                f" this, not {posting.version} and {posting.balance_after}"
            )

    def _metadata(self, line: MetadataLine) -> None:
        if line.position > self.entries or line.number != self.later.get(line.position, 0) + 1:
            raise WrongLine(f"metadata {line.number} of position {line.position} does not follow")
        self.later[line.position] = line.number

    def _follows_header(self) -> None:
        if self.header is None:
            raise WrongLine("the file does not begin with its header")
