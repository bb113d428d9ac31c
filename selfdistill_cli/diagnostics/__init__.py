"""Diagnostics, which change nothing of what is computed: gradients, single examples, vocabulary maps."""
