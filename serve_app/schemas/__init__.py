"""Bodies of the API: what is accepted (validated once, here) and how domain values look on the wire.

Field names, defaults and shapes are the released client's (Aragora wire). Unknown fields are ignored, because the
client turns any keyword argument into a field; unknown values are refused.
"""
