"""Stand-in sites: the scraped APIs on a loopback port, for tests, demos and benchmarks."""
