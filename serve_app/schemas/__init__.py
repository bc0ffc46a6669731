"""The API's schemas: request bodies, which are validated once, here, and the JSON of answers (``*_wire``).

Field names, defaults and shapes are those of the released client. Unknown fields are ignored, because that client turns
any keyword argument into a field; unknown values are refused.
"""
