"""What the machine gives: files that cannot tear, leases, ranks, signals, network, environment, points where tests kill."""
