"""The pure machines of several regions: who is primary, who holds every acknowledged row, and how a member comes back."""
