"""Logistic matrix factorization with biases."""
