"""What every process needs: owned tasks and loops, group commit, the clock, and how long calls may wait."""
