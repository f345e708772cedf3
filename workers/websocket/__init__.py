"""The WebSocket leg: servers that a bot has dialled."""
