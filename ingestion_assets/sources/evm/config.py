"""What people type about chains: the section `chains` of sources.yaml."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ingestion_assets.sources.evm.provider import ALL
from ingestion_assets.sources.evm.providers import AnyProvider
from ingestion_assets.sources.section import Section, Whole


class Tag(Section):
    """Blocks are final when the node's own tag says so."""

    tag: Literal["finalized", "safe"]


class Depth(Section):
    """Blocks are final when so many lie on top of them. 0: every block the provider shows is final."""

    depth: Annotated[Whole, Field(ge=0)]


def _one_of_both(value: object, choose: ValidatorFunctionWrapHandler) -> "Tag | Depth":
    try:
        chosen: Tag | Depth = choose(value)
    except ValidationError as error:  # it would explain both, by the names of our classes
        raise PydanticCustomError(
            "finality",
            "allowed are {tag: finalized}, {tag: safe} and {depth: N}, N blocks of 0 or more",
        ) from error
    return chosen


Finality = Annotated[Tag | Depth, WrapValidator(_one_of_both)]


def _lower(address: str) -> str:
    return address.lower()


Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_lower)]
Token = Annotated[str, StringConstraints(pattern=r"^(0x[0-9a-fA-F]{40}|\*)$"), AfterValidator(_lower)]


def _once_each(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))


Proof = Literal["nonce", "balance", "counted"]


# Chains whose nodes call blocks final that were taken back later -> blocks below the head that never were. Polygon:
# https://github.com/smartcontractkit/chainlink, the chain's own configuration file.
DISTRUSTED = {137: 500, 80_002: 500}


def _usual_finality(known: dict[str, object]) -> Tag | Depth:
    depth = DISTRUSTED.get(int(str(known.get("chain_id", 0))))
    return Tag(tag="finalized") if depth is None else Depth(depth=depth)


class ChainConfig(Section):
    """One chain: where it is read from, and whose history is wanted."""

    chain_id: Annotated[Whole, Field(gt=0)]
    start: date  # first day of the partitions
    finality: Finality = Field(default_factory=_usual_finality)
    follow_head: Annotated[bool, Field(strict=True)] = (
        False  # read unfinal blocks too, and replace what a reorganisation takes back
    )
    providers: Annotated[tuple[AnyProvider, ...], Field(min_length=1)]  # in order of preference
    sync_seconds: Annotated[Whole, Field(ge=5)] = 30  # least time between two looks of the sensor
    addresses: Annotated[tuple[Address, ...], AfterValidator(_once_each)] = ()
    tokens: Annotated[tuple[Token, ...], AfterValidator(_once_each)] = ()  # or "*": every token
    proofs: Annotated[tuple[Proof, ...], AfterValidator(_once_each)] = ()  # asked for after each run
    retention_days: Annotated[Whole, Field(ge=1)] | None = None  # of the transfer store; none: all is kept
    serve: Literal["store", "upstream"] = "store"  # who answers for this chain's transfers

    def named(self) -> list[tuple[str, AnyProvider, str | None]]:
        """Each provider once for each of its keys: its name, what was typed, and the variable that holds the key.

        The second of one name, or the second key, is called name-2.
        """
        found: list[tuple[str, AnyProvider, str | None]] = []
        seen: dict[str, int] = {}
        for provider in self.providers:
            for variable in provider.key_env or (None,):
                base = provider.name or provider.kind
                seen[base] = number = seen.get(base, 0) + 1
                found.append((base if number == 1 else f"{base}-{number}", provider, variable))
        return found

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        names = [name for name, *_ in self.named()]
        twins = {name for name in names if names.count(name) > 1}
        typed = [provider.name for provider in self.providers if provider.name is not None]
        twins |= {name for name in typed if typed.count(name) > 1}
        if twins:
            raise PydanticCustomError(
                "combination",
                "two providers are called {twins}: give one of them a name of its own",
                {"twins": ", ".join(sorted(twins))},
            )
        if self.tokens and not any(provider.is_node for provider in self.providers):
            raise PydanticCustomError(
                "combination", "whole tokens are read from logs: add a provider of kind rpc, or remove tokens"
            )
        if ALL in self.tokens and len(self.tokens) > 1:
            raise PydanticCustomError("combination", '"*" is every token already: name no other beside it')
        if "counted" in self.proofs and len({one.system for one in self.providers}) == 1:
            raise PydanticCustomError(
                "combination",
                "counted asks a second system, and a second key is none: name another provider, or remove it",
            )
        if {"nonce", "balance"} & set(self.proofs) and not any(one.is_node for one in self.providers):
            raise PydanticCustomError(
                "combination", "nonce and balance ask a node: add a provider of kind rpc, or remove them"
            )
        return self


ChainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
