"""Rounds of runs that learn from what the model of the round before wrote: STaR (arXiv 2203.14465), self-correction."""
