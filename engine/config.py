"""The configuration: small, typed, frozen; an unknown key is refused.

Input: a YAML file, the name of a preset, or nothing. Output: a Config whose defaults are the setting that wins on real playlists.
Knows the recipes of the stages and no artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from features.content import ContentRecipe
from features.domain import SegueError
from features.validation import in_one_line
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.catalogue.popularity import PopularityRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.catalogue.same_artist import AlbumRecipe, ArtistRecipe
from stages.retrieve.content.recipes import ContractiveRecipe, CosineRecipe, TransformerRecipe
from stages.retrieve.factorization.model import FactorizationRecipe
from stages.retrieve.item_item.model import GraphRecipe, SlimRecipe
from stages.retrieve.playlists.neighbours import NeighboursRecipe
from stages.retrieve.playlists.title import TitleRecipe
from stages.settings import SOURCE_NAME, Settings

PRESETS = Path(__file__).parent / "presets"
"""Settings with a name: `NAME.yaml` each."""


def _content_kind(value: object) -> object:
    """Cosine, where the file does not say."""
    return value.get("kind", "cosine") if isinstance(value, dict) else getattr(value, "kind", None)


ContentSource = Annotated[
    Annotated[CosineRecipe, Tag("cosine")]
    | Annotated[ContractiveRecipe, Tag("contractive")]
    | Annotated[TransformerRecipe, Tag("transformer")],
    Discriminator(_content_kind),
]
Recipe = Annotated[
    AlsRecipe
    | GraphRecipe
    | SlimRecipe
    | RelatedRecipe
    | AutoencoderRecipe
    | FactorizationRecipe
    | CosineRecipe
    | ContractiveRecipe
    | TransformerRecipe
    | NeighboursRecipe
    | TitleRecipe
    | ArtistRecipe
    | AlbumRecipe
    | PopularityRecipe,
    Field(discriminator="kind"),
]
"""Of every kind of source."""


class SourcesConfig(Settings):
    """One recipe for each source; null switches it off. A further name adds a source and needs its `kind`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Recipe | None]

    only: tuple[str, ...] | None = None
    """The sources that are used, beside popularity; null: all of them."""
    als: AlsRecipe | None = AlsRecipe()
    slim: SlimRecipe | None = SlimRecipe()
    related: RelatedRecipe | None = RelatedRecipe()
    autoencoder: AutoencoderRecipe | None = AutoencoderRecipe()
    content: ContentSource | None = CosineRecipe()
    neighbours: NeighboursRecipe | None = NeighboursRecipe()
    title: TitleRecipe | None = TitleRecipe()
    artist: ArtistRecipe | None = ArtistRecipe()
    album: AlbumRecipe | None = AlbumRecipe()
    popularity: PopularityRecipe = PopularityRecipe()
    """Always there: the answer to an empty query, and where no other source has one."""

    @model_validator(mode="after")
    def _names_may_name_folders(self) -> Self:
        wrong = next((name for name in self.names() if not re.fullmatch(SOURCE_NAME, name)), None)
        if wrong is not None:
            raise ValueError(f"expected names of at most 64 letters a to z, digits, _ and -, found {wrong!r}")
        return self

    @model_validator(mode="after")
    def _only_what_is_there(self) -> Self:
        missing = [name for name in self.only or () if name not in self._all()]
        if missing:
            raise ValueError(f"expected names among {', '.join(self._all())}, found {', '.join(missing)}")
        return self

    def names(self) -> list[str]:
        """Of all sources, those that are left out too."""
        return [name for name in (*type(self).model_fields, *(self.__pydantic_extra__ or ())) if name != "only"]

    def _all(self) -> dict[str, Recipe]:
        return {name: recipe for name in self.names() if (recipe := getattr(self, name)) is not None}

    def recipes(self) -> dict[str, Recipe]:
        """Of the sources that are used, by name, in the order of the fields and then of the file."""
        return {name: recipe for name, recipe in self._all().items() if self.only is None or name in (*self.only, "popularity")}


class CandidatesConfig(Settings):
    """How many tracks go from the first stage to the second."""

    per_source: int = Field(1_000, ge=1, le=20_000)
    """Tracks each source proposes, but never more than will be ranked."""
    least: int = Field(500, ge=1, le=20_000)
    """Candidates ranked for a short list."""
    per_answer: int = Field(8, ge=1, le=200)
    """Candidates ranked for each track of a longer list."""

    def most(self, k: int) -> int:
        """Candidates of one query that reach the ranker when `k` tracks are asked for."""
        return max(self.least, self.per_answer * k)

    def proposals(self, k: int | None) -> int:
        """Tracks each source is asked for when `k` are; None asks for all it may propose."""
        return self.per_source if k is None else min(self.per_source, self.most(k))


class ExamplesConfig(Settings):
    """What the ranker learns from."""

    playlists: int = Field(6_000, ge=1)
    """Playlists masked for the ranker, over all folds."""
    folds: int = Field(2, ge=1, le=10)
    """The sources are fitted anew for each fold, on all but its own playlists' hidden tracks (cross-fitting)."""
    share: float = Field(0.5, gt=0, lt=1)
    """Of all playlists, the most that one fold masks."""
    misses: int = Field(200, ge=1)
    """Candidates that are no hit, for each playlist."""
    check_share: float = Field(0.1, gt=0, lt=1)
    """Share of the masked playlists that no model learns from: the figures in the manifest come from these."""


class TrialsConfig(Settings):
    """How alternatives of a source are tried before the training."""

    playlists: int = Field(500, ge=1)
    """Playlists masked to compare the alternatives."""
    entries: int = Field(3_000_000, ge=1)
    """A larger dataset is sampled down to about so many entries."""
    worth: float = Field(0.02, ge=0)
    """Share of its nDCG by which an alternative must be better than the one before it."""


class Config(Settings):
    """Everything that decides what a training makes of a dataset."""

    seed: int = Field(0, ge=0)
    """Of every random number; the same seed gives the same model."""
    content_matrix: ContentRecipe = ContentRecipe()
    sources: SourcesConfig = SourcesConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    examples: ExamplesConfig = ExamplesConfig()
    ranker: LambdaMartRecipe = LambdaMartRecipe()
    alternatives: Mapping[str, tuple[Mapping[str, Any], ...]] = {"als": ({"factors": 256}, {"factors": 512})}
    """By source, settings to try instead of its own, cheapest first, as long as each pays."""
    trials: TrialsConfig = TrialsConfig()

    @model_validator(mode="after")
    def _alternatives_are_settings_of_sources(self) -> Self:
        unknown = [name for name in self.alternatives if name not in self.sources.names()]
        if unknown:
            raise ValueError(f"alternatives: expected names among {', '.join(self.sources.names())}, found {', '.join(unknown)}")
        self.ladders()
        return self

    def ladders(self) -> dict[str, list[Recipe]]:
        """The recipes to try for each source that is used and has alternatives, its own first."""
        used = self.sources.recipes()
        return {
            name: [used[name], *(_changed(name, used[name], changes) for changes in of_source)]
            for name, of_source in self.alternatives.items()
            if name in used and of_source
        }

    def with_source(self, name: str, recipe: Recipe | None) -> Config:
        """The same with another recipe, or without the source."""
        only = self.sources.only and tuple(kept for kept in self.sources.only if recipe is not None or kept != name)
        sources = {**self.sources.model_dump(), name: recipe and recipe.model_dump(), "only": only}
        return self.model_copy(update={"sources": SourcesConfig.model_validate(sources)})

    def without(self, names: Iterable[str]) -> Config:
        """The same without these sources."""
        return reduce(lambda config, name: config.with_source(name, None), names, self)


def _changed(name: str, recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    try:
        return type(recipe).model_validate({**recipe.model_dump(), **changes})
    except ValidationError as error:
        raise ValueError(f"alternatives.{name}.{in_one_line(error, type(recipe))}") from error


def read_config(path: Path | None) -> Config:
    """The defaults, with what the YAML file at `path`, or the preset of that name, says otherwise; an unknown key or bad value is
    a SegueError."""
    if path is None:
        return Config()
    path = _file(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SegueError(f"{path}: expected a YAML file, found {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SegueError(f"{path}: expected settings by name, found {type(values).__name__}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise SegueError(f"{path}: {in_one_line(error, Config)}. See `segue train --help`") from error


def presets() -> list[str]:
    """The names that `read_config` knows."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _file(path: Path) -> Path:
    """A word that is no file is the name of a preset."""
    if path.suffix or len(path.parts) != 1 or path.is_file():
        return path
    if path.name not in presets():
        raise SegueError(f"--config: expected a YAML file or a preset ({', '.join(presets())}), found {path}")
    return PRESETS / f"{path.name}.yaml"
