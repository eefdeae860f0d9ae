"""From scores to labels one can act on: probabilities, and which labels are returned."""
