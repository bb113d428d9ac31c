"""A run's directory, what it leaves in it, and the card of its model."""
