"""The fixtures of `world`, for all tests in this folder."""

from ingestion_assets_tests.orchestration.world import home, instance, world

__all__ = ["home", "instance", "world"]
