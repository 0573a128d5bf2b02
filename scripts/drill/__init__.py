"""Chaos testing for `scripts/chaos`: plan disruptions, run them, and check the database after."""
