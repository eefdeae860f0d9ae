"""Prepared data: shards, feature sets, the scratch of blocks, and the manifest."""
