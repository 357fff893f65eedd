"""Alembic migrations of all our schemas. One file for each change, never edited once released."""

from pathlib import Path

SCRIPTS = Path(__file__).parent
