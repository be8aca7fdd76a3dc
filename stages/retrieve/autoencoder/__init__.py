"""Autoencoders over interactions."""
