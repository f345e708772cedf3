"""A caller's WebRTC leg on aiortc: offers, candidates, data channel, sending and receiving."""
