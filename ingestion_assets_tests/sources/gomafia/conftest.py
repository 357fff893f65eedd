"""The league of `tiny`, on a database of the test's own."""

from collections.abc import Iterator

import pytest

from ingestion_assets.engine.store import Store
from ingestion_assets_tests.sources.gomafia.tiny import World, opened


@pytest.fixture
def world(store: Store) -> Iterator[World]:
    """Thirty players, three clubs, two years."""
    with opened(store) as served:
        yield served
