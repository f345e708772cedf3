"""Stand-ins for what surrounds an engine: the process itself, callers, and bots."""
