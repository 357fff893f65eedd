"""Feeds: APIs that give an endless list of events as JSON, page by page.

Read in this order: `config` (what a feed is), `paging` (how pages follow one another), `feed` (how one is asked for),
`records` (how a record becomes a row), `position` and `sweeps` (what is read next, and why nothing is lost), `streams`
(what is drained), `feeds` and `assets` (what Dagster shows).
"""
