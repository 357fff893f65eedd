"""Everything Dagster, nothing about any one source. One module for each Dagster concept."""
