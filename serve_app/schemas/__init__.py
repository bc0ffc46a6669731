"""The API's schemas: request bodies, which are validated once, here, and the JSON of answers (``*_wire``).

Field names, defaults and shapes are those of the released client. Unknown fields of its bodies are ignored, because it turns
any keyword argument into a field (`RequestBody`); those of all other bodies are refused (`ExactBody`). Unknown values are
refused everywhere.
"""
