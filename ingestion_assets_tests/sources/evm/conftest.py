"""What the tests of this family share."""

import pytest

from ingestion_assets_tests.sources.evm.reading import OPENED


@pytest.fixture(scope="session", autouse=True)
def _close_what_was_opened():
    with OPENED:
        yield
