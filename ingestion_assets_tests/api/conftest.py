"""One database with two chains of transfers for all tests that only read, and the API over it."""

import pytest

from ingestion_assets_tests.api.world import config, connect, fill, served
from ingestion_assets_tests.conftest import TEMPLATE, fresh


@pytest.fixture(scope="package")
def filled_url(postgres):
    """The url of a database with both chains; nobody changes it."""
    databases = fresh(postgres, TEMPLATE)
    url = next(databases)
    with connect(url) as connection:
        fill(connection)
    yield url
    for _ in databases:
        pass


@pytest.fixture(scope="package")
def api(filled_url):
    """A client of the API over it."""
    with served(config(filled_url)) as client:
        yield client


@pytest.fixture(scope="package")
def rows(filled_url):
    """A connection to look at what is stored."""
    with connect(filled_url) as connection:
        yield connection
