"""Training here against the libraries that others use, each at its best: `scripts/bench_throughput.py --what peers`."""
