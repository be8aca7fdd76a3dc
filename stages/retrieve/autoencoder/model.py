"""Autoencoders over interactions, regular or variational, with or without content; their decoder rows are the track vectors.

Input: playlist-track interactions and, for a hybrid, the content matrix. Output: track vectors with their biases, and an encoder that
turns any seed set into a query vector in the same space. The variational one is that of Liang, Krishnan, Hoffman and
Jebara, "Variational Autoencoders for Collaborative Filtering" (2018): multinomial likelihood, annealed KL. The regular one
has no noise and no KL term. Both are denoising: they reconstruct the whole playlist from a part of it.

Changes for millions of tracks and few playlists: the softmax runs over a sample of the tracks
(`stages.retrieve.training.sampled_softmax`), so that no playlists x tracks matrix exists. Encoder and decoder share their rows, which begin
as the leading directions of the interactions. In a hybrid the row of a track is its own part and a linear map of its
content; the sum is kept, so the trained thing needs no content, and a track that nobody holds still has an input.
What the encoder is shown is what requests hold: first tracks, random ones, sometimes none.
Knows no title and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.arrays import floats
from features.domain import Floats, Ints, Queries, counted
from features.reading import reading
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import VectorSource, open_vectors

LAYERS = "layers.safetensors"


class AutoencoderRecipe(Recipe):
    """Kind, size, length and noise of the training."""

    kind: Literal["autoencoder"] = "autoencoder"
    variant: Literal["regular", "variational"] = "variational"
    """With noise and KL term, or without."""
    content: bool = False
    """Hybrid: the content of the tracks joins encoder and decoder."""
    dim: int = Field(128, ge=1, le=4096)
    """Dimensions of the vectors."""
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.005, gt=0)
    negatives: int = Field(4_000, ge=1)
    """Tracks drawn per step beside those the batch holds."""
    kl_weight: float = Field(0.2, ge=0)
    """Variational only: the weight of the KL term once annealed; reached after half of the epochs."""
    input_dropout: float = Field(0.5, ge=0, lt=1)
    """Share of the shown tracks that are left out again, at random."""
    index: IndexRecipe = IndexRecipe()

    def read(self, folder: Path, num_tracks: int) -> Autoencoder:
        vectors = open_vectors(folder, (num_tracks, self.dim + 1))
        return Autoencoder(self, vectors, self.index.open(folder, vectors), _open_layers(folder / LAYERS, layer_shapes(self)))


def layer_shapes(recipe: AutoencoderRecipe) -> dict[str, tuple[int, ...]]:
    """The layers that a trained source needs, by name, and the shape of each."""
    dim = recipe.dim
    squares = ("mean", "decode", *(["log_variance"] if recipe.variant == "variational" else []))
    return {"bias": (dim,), **{f"{name}.bias": (dim,) for name in squares}, **{f"{name}.weight": (dim, dim) for name in squares}}


def _open_layers(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """What `Autoencoder.save` wrote; other names or shapes than those `wanted` are an error."""
    with reading(path, f"the float32 layers {_form(wanted)}", also=(SafetensorError,)), safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        found = {name: tuple(layer.get_shape()) for name, layer in slices.items()}
        types = sorted({layer.get_dtype() for layer in slices.values()})
        if found != wanted or types != ["F32"]:
            raise ValueError(f"{' and '.join(types)} {_form(found)}")
        layers = {name: file.get_tensor(name) for name in wanted}
    for name, layer in layers.items():
        floats(*wanted[name]).require(layer, f"{path}: {name}")
    return layers


def _form(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))


@dataclass(frozen=True, repr=False)
class Autoencoder(VectorSource):
    """Trained: rows of encoder and decoder alike, their bias as the last coordinate, and the network in plain arrays.

    It has no `track_biases`: the last coordinate says no more than popularity, and the ranker is better without it.
    """

    recipe: AutoencoderRecipe
    layers: dict[str, Floats]

    def query_vectors(self, queries: Queries) -> Floats:
        """(q, dim + 1) the decoded mean of each query's seeds and a 1 for the bias, all rows in one product; zeros without seeds."""
        vectors = np.zeros((len(queries), self.recipe.dim + 1), np.float32)
        rows = np.flatnonzero(queries.seed_counts()).tolist()
        if rows:
            vectors[rows] = self._decoded([queries.seeds_of(i) for i in rows])
        return vectors

    def query_vector(self, seeds: Ints) -> Floats:
        vector: Floats = self._decoded([seeds])[0]
        return vector

    def _decoded(self, seeds: Sequence[Ints]) -> Floats:
        summed = np.stack([self.track_vectors[of_query, :-1].sum(0) / np.sqrt(len(of_query)) for of_query in seeds])
        encoded = np.tanh(summed + self.layers["bias"])
        hidden = np.tanh(self._linear("decode", self._linear("mean", encoded)))
        return np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1, dtype=np.float32)

    def _linear(self, name: str, values: Floats) -> Floats:
        result: Floats = values @ self.layers[f"{name}.weight"].T + self.layers[f"{name}.bias"]
        return result

    def write_parts(self, folder: Path) -> None:
        save_file({name: np.ascontiguousarray(layer) for name, layer in self.layers.items()}, folder / LAYERS)

    def facts(self) -> dict[str, Any]:
        form = {"kind": "autoencoder", "variant": self.recipe.variant, "content": self.recipe.content}
        return {**form, "dimension": self.recipe.dim + 1, "metric": "inner product"}

    @property
    def dimensions(self) -> str:
        return counted(self.recipe.dim, "dimension")
