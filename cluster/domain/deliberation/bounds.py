"""Bounds that clients check too. Apart from the contract, which loads a checker of schemas that takes a third of a second."""

MAX_QUESTION_CHARS = 20_000
