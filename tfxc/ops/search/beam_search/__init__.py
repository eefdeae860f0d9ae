"""Beam search in a label tree with sparse weights, native, in NumPy and in a graph."""
