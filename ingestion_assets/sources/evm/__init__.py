"""EVM chains: transactions, internal transactions and token transfers of watched accounts.

Read in this order: `provider` (what a provider is), `streams` (what is read, and of whom), `providers.etherscan` (how one
is asked), `records` (how a record becomes a row), `chain` and `forks` (days, blocks, reorganisations), `proofs` (how what
is stored is verified), `assets` (what Dagster shows).
"""
