"""Budgets: money, periods, and accounts held to their entries."""
