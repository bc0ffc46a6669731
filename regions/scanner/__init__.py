"""Whether files hold what must not be in them: markers of payloads, searched for in all forms that such a text takes on disk."""
