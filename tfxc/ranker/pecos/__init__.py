"""Models that PECOS has trained."""
