"""Item-item models: what a seed says of other tracks, by a graph or by a sparse regression (SLIM)."""

from stages.retrieve.item_item.model import GraphRecipe, Items, SlimRecipe

__all__ = ["GraphRecipe", "Items", "SlimRecipe"]
