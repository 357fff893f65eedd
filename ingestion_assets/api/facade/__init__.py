"""What is stored, in the dialect of the Etherscan V2 API: clients of that work when their base url is changed.

https://docs.etherscan.io/etherscan-v2. Belongs here: its parameters, its envelope and its sentences. There is no window of 10,000
records: pages go on to the end. What is not stored is refused, and never told as an empty list.
"""
