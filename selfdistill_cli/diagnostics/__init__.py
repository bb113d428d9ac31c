"""Looks into training that change nothing of what is computed: gradients, single examples, vocabulary maps."""
