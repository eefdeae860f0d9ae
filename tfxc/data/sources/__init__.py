"""Batches of examples, each a function of seed and step."""
