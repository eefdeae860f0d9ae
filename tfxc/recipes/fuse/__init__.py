"""A ranker, a memory and label texts, fused by small trees that held-out examples have trained."""
