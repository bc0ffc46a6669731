"""Consensus: how ballots become a decision, how much the decision is worth, and when asking on cannot change it.

``ballots`` and ``rule`` are the values that go in, ``result`` the value that comes out, ``aggregate`` the one way through.
``learned`` makes the ``snapshot`` of weights and calibration that some rules read; ``waves`` and ``drift`` serve the
protocol around them.
"""
