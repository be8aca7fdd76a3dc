"""What the catalog says: same artist, same album, related artists, popularity."""

from stages.retrieve.catalogue.popularity import Popularity, PopularityRecipe
from stages.retrieve.catalogue.related_artists import Related, RelatedRecipe
from stages.retrieve.catalogue.same_artist import AlbumRecipe, ArtistRecipe, MoreOfTheSame

__all__ = ["AlbumRecipe", "ArtistRecipe", "MoreOfTheSame", "Popularity", "PopularityRecipe", "Related", "RelatedRecipe"]
