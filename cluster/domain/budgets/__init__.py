"""Budgets of money: what tasks may cost in a day or a month, what was reserved and spent, and how that is counted."""
