"""EVM chains: transactions, internal transactions and token transfers of watched accounts.

Read in this order: `streams` (what is read, and how a range is paged), `etherscan` (how it is asked),
`records` (how a record becomes a row), `chain` (days and blocks), `assets` (what Dagster shows).
"""
