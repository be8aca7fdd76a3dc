"""ALS: alternating least squares for implicit feedback."""

from stages.retrieve.als.model import Als, AlsRecipe

__all__ = ["Als", "AlsRecipe"]
