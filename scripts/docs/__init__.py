"""The writers of the generated pages: ``make docs``."""
