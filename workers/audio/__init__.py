"""Codecs and signal processing: samples and packets in, packets and samples out."""
