"""What is odd about what people watch: a token that is none, a contract among the accounts. A node is asked; nothing stops."""

from collections.abc import Iterable, Iterator

from ingestion_assets.engine.errors import IngestionError, Misconfigured
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.provider import Provider, State

NOBODY = "0x" + "0" * 40


def on_tokens(chain: Chain, tokens: Iterable[str]) -> list[str]:
    """Of tokens that are no ERC-20 contracts, what to change."""
    return [remark for token in tokens for node in _nodes(chain) for remark in _on_token(chain, node, token)]


def on_accounts(chain: Chain, accounts: Iterable[str]) -> list[str]:
    """Of accounts that are contracts, which proof says nothing about them."""
    return [
        f"chains.{chain.name}.addresses: {account} is a contract, says {node.name}: its nonce proves nothing about it; "
        "the proofs balance and counted still do"
        for account in accounts
        for node in _nodes(chain)
        if _has_code(node, account, chain.last())
    ]


def _nodes(chain: Chain) -> Iterator[Provider]:
    """The first provider that knows the state, if there is one."""
    yield from [one for one in chain.providers.providers if isinstance(one, State)][:1]


def _on_token(chain: Chain, node: Provider, token: str) -> Iterator[str]:
    assert isinstance(node, State)  # noqa: S101 - for the type checker
    where = f"chains.{chain.name}.tokens"
    try:
        if not node.has_code(token, chain.last()):
            yield f"{where}: there is no contract at {token}, says {node.name}: correct the address, or remove it"
        else:
            node.token_balance(token, NOBODY, chain.last())
    except Misconfigured:
        yield (
            f"{where}: {token} is no ERC-20 token, says {node.name}: it gives no balance. Correct the address, or remove it; "
            "what looks like its transfers is stored meanwhile"
        )
    except IngestionError:
        return  # the reading will say what is wrong with the node


def _has_code(node: Provider, account: str, block: int) -> bool:
    assert isinstance(node, State)  # noqa: S101 - for the type checker
    try:
        return node.has_code(account, block)
    except IngestionError:
        return False
