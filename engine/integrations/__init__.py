"""Other frameworks on this engine. Each needs the extra of its name: `pip install .[pipecat]`."""
