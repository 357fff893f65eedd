"""Read-only HTTP over what is stored. Knows the engine and the definitions of tables, and neither Dagster nor any source's logic.

Read in this order: `config` (what it is told), `parameters` and `ordering` (what is asked, and in which order it is answered),
`pages` (the SQL), `snapshot` and `freshness` (how far the store is), `transfers` (the answer), `etherscan` (the same for clients of
an explorer), `app` (where it all meets).
"""
