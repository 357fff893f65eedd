"""Resumable ingestion: what is read, how it is committed, and how far it is. Knows neither Dagster nor any source."""
