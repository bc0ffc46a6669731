"""Learning from recorded outcomes: weights, their evaluation, and recorded answers that are replayed."""
