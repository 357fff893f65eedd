"""The chain's past state, from whichever node is able to tell it."""

from collections.abc import Callable
from typing import TypeVar

from ingestion_assets.sources.evm.chain import STATE, Chain
from ingestion_assets.sources.evm.provider import Provider, State

T = TypeVar("T")


class Witness:
    """Asks the nodes of a chain about its state, the most preferred first. False where there is none.

    Args:
        chain: whose providers are asked.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._others = [one.name for one in chain.providers.providers if not isinstance(one, State)]
        self.by = ""
        """Who gave the last answer."""

    def __bool__(self) -> bool:
        return len(self._others) < len(self._chain.providers.providers)

    def ask(self, question: Callable[[State], T]) -> T:
        """The answer of the first node that has one.

        Raises:
            IngestionError: nobody answered.
        """

        def ask(provider: Provider) -> T:
            assert isinstance(provider, State)  # noqa: S101 - for the type checker: the others are left out
            self.by = provider.name
            return question(provider)

        return self._chain.ask(ask, about=STATE, but=self._others)
