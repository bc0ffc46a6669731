"""Batches of questions: a file of items in, a file of outcomes out, over nothing but the durable API.

A driver holds no state that matters: an item's key is the hash of what it asks, the API answers a repeated key with the
same deliberation, and a finished item is one whole line of the output. A driver that was killed is simply started again.
"""
