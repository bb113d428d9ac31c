"""`sdrun --plan`: what a command would do and what that would take, before it does it."""
