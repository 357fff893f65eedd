"""The envelope of every answer, and the sentences that clients know."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingestion_assets.api.config import ApiConfig, ServedChain

UNSUPPORTED = (
    "Missing or unsupported chainid parameter (required for v2 api), please see"
    " https://api.etherscan.io/v2/chainlist for the list of supported chainids"
)
TIMEOUT = "Query Timeout occured. Please select a smaller result dataset"
NO_ROWS = "No transactions found"
NO_LOGS = "No records found"
NO_BLOCK = "Error! No closest block found"

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_HASH = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)

Headers = Mapping[str, str]


class Refused(Exception):
    """There is no answer; the sentence says why."""

    def __init__(self, result: str | None, message: str = "NOTOK") -> None:
        super().__init__(result or message)
        self.result = result
        self.message = message


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: its envelope, and what its headers say of its coverage."""

    status: str
    message: str
    result: object
    headers: Headers = field(default_factory=dict[str, str])


def listed(found: Sequence[object], nothing: str, headers: Headers) -> Told:
    """Records, or the sentence for none."""
    return Told("1", "OK", found, headers) if found else Told("0", nothing, [], headers)


class Parameters:
    """The parameters of a question, read as the explorer reads them.

    Args:
        query: as it came.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = {name.lower(): value.strip() for name, value in query.items()}

    def get(self, name: str) -> str:
        """A parameter; empty where there is none."""
        return self._query.get(name.lower(), "")

    def chain(self, config: ApiConfig) -> ServedChain:
        """The chain. Where only one is served, clients of the time when each chain had its own explorer need not name it."""
        key = self.get("chainid")
        if not key and len(config.chains) == 1:
            return config.chains[0]
        found = config.chain(key) if key.isdecimal() else None
        if found is None:
            raise Refused(UNSUPPORTED)
        return found

    def address(self, name: str = "address") -> str | None:
        """An address, lower case."""
        value = self.get(name)
        if not value:
            return None
        if not _ADDRESS.fullmatch(value):
            raise Refused(
                "Error! Invalid address format"
                if name == "address"
                else "Error! Invalid contract address format"
            )
        return value.lower()

    def hash(self) -> str | None:
        """The hash of a transaction, lower case."""
        value = self.get("txhash")
        if value and not _HASH.fullmatch(value):
            raise Refused("Error! Invalid transaction hash format")
        return value.lower() or None

    def block(self, name: str) -> int | None:
        """A block; None: not named, or the latest one."""
        value = self.get(name)
        if not value or value.lower() == "latest":
            return None
        if not _NUMBER.fullmatch(value):
            raise Refused(f"Error! Invalid parameter {name}: a number or latest is wanted")
        return int(value)

    def number(self, name: str) -> int | None:
        """A whole number; None: not named."""
        value = self.get(name)
        if not value:
            return None
        if not _NUMBER.fullmatch(value):
            raise Refused(f"Error! Invalid parameter {name}: a whole number is wanted")
        return int(value)

    def page(self, most: int) -> tuple[int, int]:
        """The number of the page and its size. Only both together turn pages on; else it is the first page, as long as may be."""
        page, offset = self.number("page"), self.number("offset")
        if not page or not offset:
            return 1, min(offset or most, most)
        if offset > most:
            raise Refused(f"Error! Invalid parameter offset: at most {most} records are given at once")
        if page * offset >= 2**62:
            raise Refused(f"Error! Invalid parameter page: {page} is further than any number of records")
        return page, offset

    @property
    def is_newest_first(self) -> bool:
        """Oldest first is usual."""
        return self.get("sort").lower() == "desc"
