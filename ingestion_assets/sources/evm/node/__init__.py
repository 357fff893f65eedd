"""Reading a chain from its own nodes, over JSON-RPC, and proving that what they say is whole.

Belongs here: what is true of every node. How one kind of provider is configured stands in `providers`.
"""
