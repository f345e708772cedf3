"""`scripts/load_test`: many light callers against any server that answers `POST /api/offer`."""
