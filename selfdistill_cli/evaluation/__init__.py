"""Scores of a model on validation splits: labels and answers, metrics, signals."""
