"""What carries out the machine of one region: its loops, and what each of its effects does."""
