"""Content models: tracks that are like the seeds by what is known of them, whether anyone has played them or not."""

from stages.retrieve.content.model import Content
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, GroupWeights, TransformerRecipe

__all__ = ["Content", "ContractiveRecipe", "CosineRecipe", "GroupWeights", "TransformerRecipe"]
