"""What people type about explorers, and what is opened of it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.providers import AnyProvider
from ingestion_assets.sources.evm.providers.blockscout import Blockscout
from ingestion_assets.sources.evm.providers.blockscout_rest import BlockscoutRest
from ingestion_assets.sources.evm.providers.cronos import Cronos, CronosByQuery
from ingestion_assets.sources.evm.providers.etherscan import Etherscan
from ingestion_assets.sources.evm.providers.routescan import Routescan

CONFIG = TypeAdapter(AnyProvider)
ROUTESCAN = "https://api.routescan.io/v2/network/mainnet/evm/43114/etherscan/api"


@pytest.mark.parametrize(("typed", "kind", "number"), [
    ({"kind": "etherscan"}, Etherscan, 8453),
    ({"kind": "routescan", "url": ROUTESCAN}, Routescan, 43114),
    ({"kind": "cronos"}, Cronos, None),
    ({"kind": "cronos", "api": "v2", "url": "https://explorer-api.cronos.org/mainnet/api/v2"}, CronosByQuery, None),
    ({"kind": "blockscout", "url": "https://base.blockscout.com"}, Blockscout, ...),
    ({"kind": "blockscout", "url": "https://base.blockscout.com", "api": "v2"}, BlockscoutRest, ...),
])  # fmt: skip
def test_each_kind_opens_its_own_explorer(typed, kind, number, store):
    """Under the name it is given; one account a question; with its key in the query."""
    config = CONFIG.validate_python(typed)
    client = Client(str(config.url), secrets=config.secrets("KEY"))
    provider = config.open(client, name="mine", chain="base", chain_id=8453, store=store)
    assert type(provider) is kind
    assert (provider.name, provider.at_once) == ("mine", 1)
    assert config.secrets("KEY").query == {"apikey": "KEY"}
    assert config.secrets(None).query == {}
    assert "KEY" not in repr(config.secrets("KEY"))
    if number is not ...:
        assert provider.chain_id() == number
    provider.close()


@pytest.mark.parametrize("typed", [
    {"kind": "routescan"}, {"kind": "blockscout"}, {"kind": "blockscout", "url": "https://b", "api": "v3"},
    {"kind": "etherscan", "page_size": 1}, {"kind": "etherscan", "page_size": True}, {"kind": "etherscan", "pages": 1},
    {"kind": "cronos", "result_window": 0}, {"kind": "explorer"},
], ids=str)  # fmt: skip
def test_what_makes_no_sense_is_refused_when_it_is_read(typed):
    """Before anything is asked."""
    with pytest.raises(ValidationError):
        CONFIG.validate_python(typed)


def test_a_routescan_without_a_chain_in_its_url_says_what_to_write(store):
    """Its url is the only place where the chain is named."""
    config = CONFIG.validate_python({"kind": "routescan", "url": "https://api.routescan.io/v2"})
    with pytest.raises(Misconfigured, match="evm/43114/etherscan/api"):
        config.open(Client(str(config.url)), name="r", chain="avalanche", chain_id=43114, store=store)
