"""Content models: tracks with features similar to the seeds', including cold-start tracks."""

from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, GroupWeights, TransformerRecipe

__all__ = ["Content", "ContractiveRecipe", "CosineRecipe", "GroupWeights", "TransformerRecipe"]
