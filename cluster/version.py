"""The version of the code: on the API, in ``aragora-cp version``, and on every actor, so that old ones are replaced."""

VERSION = "0.2.0"
