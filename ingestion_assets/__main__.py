"""`python -m ingestion_assets` is the command `ingestion`."""

from ingestion_assets.cli import app

app()
