"""What makes training fast on a processor without changing its mathematics; a GPU has fused kernels for all of it."""
