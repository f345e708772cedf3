"""The engine over HTTP: signaling, health, the playground."""
