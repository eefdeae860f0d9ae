"""What a training begins with, instead of random weights."""
