"""The OpenAPI document says what is sent: ``shapes.py`` what answers look like, ``answers.py`` which route sends which of them
with which status, ``document.py`` completes FastAPI's document with both. Tests check every answer of the API against it.

Answers are made of plain dicts, since FastAPI's response models would validate every row that is sent; so their shapes are
stated here and not read off the routes.
"""
