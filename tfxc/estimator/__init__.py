"""Python interfaces: an estimator for scikit-learn, and trained runs."""
