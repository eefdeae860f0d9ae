"""Labels of nearest examples, of near label texts and of a ranker, fused into one list."""
