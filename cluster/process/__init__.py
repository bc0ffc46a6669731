"""What every process of ours is made of: owned tasks and loops, group commit, the clock, and how long calls may wait."""
