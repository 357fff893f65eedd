"""What the tests of the engine share: a table of their own in the test's database."""

import pytest

from ingestion_assets.engine import database
from ingestion_assets_tests.engine.things import metadata


@pytest.fixture
def shelf(database_url):
    """The url of a database with the table `raw.things`."""
    metadata.create_all(database.engine(database_url))
    return database_url
