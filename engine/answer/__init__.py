"""Between a person's words and the model's numbers. No network."""
