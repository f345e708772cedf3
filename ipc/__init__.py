"""What every Backbeat process must agree on: bytes, messages, frames and names.

Knows neither the engine nor the workers, holds no policy and runs no server.
"""
