"""What the tests of this family share."""

import pytest

from ingestion_assets_tests.sources.statements.tiny import Dropped


@pytest.fixture
def inbox(store, tmp_path):
    """An empty inbox on a database of the test's own."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    return Dropped(folder, store)
