"""The transfer store: every ERC-20 transfer that `evm` has brought in, once, in the form in which it is served."""
