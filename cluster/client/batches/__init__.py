"""Batches of questions: a file of items in, a file of outcomes out, by means of the durable API alone.

A driver keeps no state that must not be lost: an item's key is the hash of what it asks, the API answers a repeated key
with the same deliberation, and a finished item is a whole line of the output. So a driver that was killed is started again.
"""
