"""The organisations' HTTP API: schedule, runs, items, presets, sources and secrets."""
