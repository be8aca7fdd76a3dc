"""Similar playlists vote: by the tracks they share with the query, or by their titles."""

from stages.retrieve.playlists.neighbours import Neighbours, NeighboursRecipe
from stages.retrieve.playlists.title import Title, TitleRecipe

__all__ = ["Neighbours", "NeighboursRecipe", "Title", "TitleRecipe"]
