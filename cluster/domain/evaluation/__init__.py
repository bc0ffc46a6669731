"""Evaluation: what each rule would have decided on recorded answers, how often it was right, and what it cost.

``records`` reads questions and answers, ``modes`` decides every question at once, ``table`` turns decisions into figures.
"""
