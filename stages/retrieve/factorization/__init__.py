"""Logistic matrix factorization with biases."""

from stages.retrieve.factorization.model import Factorization, FactorizationRecipe

__all__ = ["Factorization", "FactorizationRecipe"]
