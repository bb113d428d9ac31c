"""Texts as token numbers: one row an example to be labelled, prompt and answer to be written."""
