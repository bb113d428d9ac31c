"""Sweeps: every job leaves a record, a failure stops nobody, the end is one table."""
