"""The media plane: processes that carry samples and decide nothing.

A worker imports `ipc`, never `engine`.
"""
