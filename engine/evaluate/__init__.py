"""How good a model is, and batch answers to be judged."""
