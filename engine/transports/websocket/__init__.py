"""The documented transport to a WebSocket server, which a media worker dials and paces."""
