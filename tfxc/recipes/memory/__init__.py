"""Labels of the nearest training examples and label texts; nothing is trained."""
