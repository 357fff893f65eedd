"""What the tests of explorers share."""

import pytest

from ingestion_assets_tests.sources.evm.providers.reading import OPENED


@pytest.fixture(scope="session", autouse=True)
def _close_what_was_opened():
    with OPENED:
        yield
