"""Settings: types and bounds, checks, what is said of wrong ones, one option by its name."""
