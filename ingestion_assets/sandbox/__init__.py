"""A made-up block explorer for the first run and for the tests: no key, no network, no surprises.

`python -m ingestion_assets.sandbox` serves it. The chains are deterministic and grow with the
clock, and they hold the odd cases that real data has. Nothing in here is used in production.
"""

from ingestion_assets.sandbox.chain import ACTIONS, Chain
from ingestion_assets.sandbox.explorer import explorer
from ingestion_assets.sandbox.world import (
    CHAIN_IDS,
    history_start,
    served_chains,
    wall_clock_head,
    watched_addresses,
)

__all__ = [
    "ACTIONS",
    "CHAIN_IDS",
    "Chain",
    "explorer",
    "history_start",
    "served_chains",
    "wall_clock_head",
    "watched_addresses",
]
