"""Linear ranker over a label tree (XR-Linear): weights, training, beam search, ensembles."""
