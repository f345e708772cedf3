"""The documented transports, their frames and processors, on Backbeat's sessions."""
