"""Consensus: how ballots become a decision, how sure the decision is, and when further answers cannot change it.

``aggregate`` turns ``ballots`` and a ``rule`` into a ``result``; nothing else decides.
``learned`` makes the ``snapshot`` of weights and calibration that some rules read; ``waves`` and ``drift`` serve the
protocol around them.
"""
