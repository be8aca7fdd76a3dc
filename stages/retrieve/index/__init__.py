"""Indexes: the structures that find the largest inner products, exact or approximate."""

from stages.retrieve.index.protocol import Index
from stages.retrieve.index.recipe import IndexRecipe

__all__ = ["Index", "IndexRecipe"]
