"""Chains that are served by their upstream: the question is passed on to the chain's explorer, and the answer is told in our shape.

An explorer answers less than the store: it wants an account or a token, knows no times and no cursors, and its pages end at its
window. What it cannot answer, and whatever it does not answer in time, the store answers.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ingestion_assets.api import records
from ingestion_assets.api.config import ALL_TOKENS, Explorer, ServedChain
from ingestion_assets.api.pages import Wanted
from ingestion_assets.engine.errors import IngestionError

REST = 30.0  # seconds that an upstream is left alone after it failed
AT_ONCE = 8  # questions to all upstreams


class NotAnswered(Exception):
    """The store has to answer. `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Failed:
    until: float
    said: str


class Upstreams:
    """The explorers, asked in threads, each left alone for a while after it has failed.

    Args:
        explorers: by chain.
        seconds: that one has to answer.
        clock: seconds, never backwards.
    """

    def __init__(
        self,
        explorers: Mapping[str, Explorer],
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._explorers = explorers
        self._seconds = seconds
        self._clock = clock
        self._failed: dict[str, _Failed] = {}
        # Of its own: questions that hang take no thread from anybody else.
        self._threads = ThreadPoolExecutor(AT_ONCE, "upstream")

    async def page(
        self, chain: ServedChain, wanted: Wanted, size: int, number: int, head: int | None
    ) -> Sequence[records.Transfer]:
        """A page of one chain.

        Raises:
            NotAnswered: nobody there can answer this, or does.
        """
        explorer = self._explorers.get(chain.name)
        if explorer is None:
            raise NotAnswered("UPSTREAM_MISSING", f"{chain.name} has no explorer that could be asked")
        question = self._question(chain, wanted, size, number)
        failed = self._failed.get(chain.name)
        if failed is not None and failed.until > self._clock():
            raise NotAnswered("UPSTREAM_FAILED", failed.said)
        try:
            async with asyncio.timeout(self._seconds):
                found = await asyncio.get_running_loop().run_in_executor(
                    self._threads, explorer.token_transfers, question
                )
        except TimeoutError:
            said = f"{explorer.name} did not answer within {self._seconds:g} seconds"
        except IngestionError as error:
            said = str(error)
        else:
            self._failed.pop(chain.name, None)
            return [_described(record, chain, head) for record in found]
        self._failed[chain.name] = _Failed(self._clock() + REST, said)
        raise NotAnswered("UPSTREAM_FAILED", said)

    @staticmethod
    def _question(chain: ServedChain, wanted: Wanted, size: int, number: int) -> dict[str, str | int]:
        """The parameters of its `tokentx`. https://docs.etherscan.io/api-reference/endpoint/tokentx"""
        if wanted.hash is not None or wanted.since is not None or wanted.until is not None:
            raise NotAnswered(
                "UPSTREAM_CANNOT", "an explorer finds token transfers neither by hash nor by time"
            )
        token = wanted.token
        if token is None and wanted.address is None:
            if len(chain.tokens) != 1 or ALL_TOKENS in chain.tokens:
                raise NotAnswered(
                    "UPSTREAM_CANNOT", "an explorer wants an address or a token; name one of them"
                )
            [token] = chain.tokens  # the only one that can be meant
        question: dict[str, str | int] = {
            "page": number,
            "offset": size,
            "sort": "desc" if wanted.newest_first else "asc",
        }
        named = {
            "address": wanted.address, "contractaddress": token, "startblock": wanted.lo, "endblock": wanted.hi
        }  # fmt: skip
        return question | {name: value for name, value in named.items() if value is not None}

    def close(self) -> None:
        """Ask nobody any more; what hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def failures(self) -> dict[str, str]:
        """What the upstreams that are left alone said, by chain."""
        now = self._clock()
        return {chain: failed.said for chain, failed in self._failed.items() if failed.until > now}


def _described(record: Mapping[str, object], chain: ServedChain, head: int | None) -> records.Transfer:
    fields = {name: records.text(record.get(said)) for name, said in _SAID.items()}
    if not fields["confirmations"] and fields["block_number"].isdecimal():
        fields["confirmations"] = records.confirmations(head, int(fields["block_number"]))
    index = record.get("logIndex")
    return records.Transfer(
        **fields,
        chain_id=chain.chain_id,
        chain_name=chain.name,
        log_index=None if index is None else records.decimal(index),
        ordinal=None,
        id=None,
    )


_SAID = dict(
    zip(records.TokenTransfer.__struct_fields__, records.TokenTransfer.__struct_encode_fields__, strict=True)
)
