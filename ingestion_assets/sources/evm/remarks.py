"""What is odd about what people watch: a token that is none, a contract among the accounts. A node is asked; nothing stops."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from ingestion_assets.engine.errors import IngestionError, Misconfigured
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.provider import State
from ingestion_assets.sources.evm.witness import Witness

NOBODY = "0x" + "0" * 40
MOST = 50  # that are looked at: a call for each of thousands of accounts is not worth a remark


def on_tokens(chain: Chain, tokens: Sequence[str]) -> list[str]:
    """Of tokens that are no ERC-20 contracts, what to change."""
    return _as_far_as_known(_on_tokens(chain, tokens[:MOST]))


def on_accounts(chain: Chain, accounts: Sequence[str]) -> list[str]:
    """Of accounts that are contracts, what that means."""
    return _as_far_as_known(_on_accounts(chain, accounts[:MOST]))


def _as_far_as_known(remarks: Iterator[str]) -> list[str]:
    """What could be found out. Where no node answers, the reading will say what is wrong with it."""
    found: list[str] = []
    with suppress(IngestionError):
        found.extend(remarks)
    return found


def _on_tokens(chain: Chain, tokens: Iterable[str]) -> Iterator[str]:
    node, where, last = Witness(chain), f"chains.{chain.name}.tokens", chain.last()
    for token in tokens if node else ():
        if not node.ask(partial(_has_code, token, last)):
            yield f"{where}: there is no contract at {token}, says {node.by}: correct the address, or remove it"
        elif not node.ask(partial(_gives_balance, token, last)):
            yield (
                f"{where}: {token} is no ERC-20 token, says {node.by}: it gives no balance. Correct the address, or remove it; "
                "what looks like its transfers is stored meanwhile"
            )


def _on_accounts(chain: Chain, accounts: Iterable[str]) -> Iterator[str]:
    node, last = Witness(chain), chain.last()
    for account in accounts if node else ():
        if node.ask(partial(_has_code, account, last)):
            yield (
                f"chains.{chain.name}.addresses: {account} is a contract, says {node.by}. It is read like any account, but its "
                "nonce proves nothing; if it is a token and all its transfers are wanted, name it under tokens"
            )


def _has_code(address: str, block: int, node: State) -> bool:
    return node.has_code(address, block)


def _gives_balance(token: str, block: int, node: State) -> bool:
    try:
        node.token_balance(token, NOBODY, block)
    except Misconfigured:  # the contract's fault
        return False
    return True
