"""The search of hashed heads: scores of labels gathered from the scores of buckets."""
