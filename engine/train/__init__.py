"""Training: from a dataset to an artifact."""
