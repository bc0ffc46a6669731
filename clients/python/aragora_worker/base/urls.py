"""A URL as it may be shown: without its user and password."""

from __future__ import annotations

from typing import Final

#: What stands for a secret.
MASK: Final = "***"
#: What to do about a URL that cannot be parsed: most often a password is in it as it is.
PASSWORD_FORM: Final = "write @ : / # ? % in a user or password as %40 %3A %2F %23 %3F %25"


def without_userinfo(text: str) -> str:
    """A text with one URL in it, without the URL's user and password. They may hold any character, since a URL that is shown
    may be one that was refused: they end at the last @ of the text."""
    before, separator, rest = text.partition("://")
    return f"{before}{separator}{MASK}{rest[rest.rfind('@') :]}" if "@" in rest else text
