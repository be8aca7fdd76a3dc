"""Request and response models of the HTTP service, as its OpenAPI page shows them.

Input: a JSON body. Output: a validated request, or an answer ready to be serialised. Unknown keys, NaN and infinite numbers
and lists that are too long are refused here, so that no later code has to check again. Independent of the web framework.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from features.domain import MAX_ANSWER

MAX_TRACKS, MAX_EXCLUDED, MAX_CANDIDATES = 1_000, 10_000, 1_000

Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(max_length=500)]


def _whole(value: object) -> object:
    """278.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MAX_ANSWER, strict=True, description="How many tracks to answer with."), BeforeValidator(_whole)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Range(_Request):
    """From `min` to `max`, both included; tracks whose value is not known are left out."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min to be at most max, found {self.min} and {self.max}")
        return self


class Filters(_Request):
    """Conditions on the tracks of an answer; all of them must be true. A value that is not known makes a condition false."""

    explicit: bool | None = Field(None, strict=True, description="false: tracks known not to be explicit; true: explicit ones.")
    genre: list[Name] | None = Field(None, min_length=1, max_length=100, description="One of these, in upper or lower case.")
    artist: list[Name] | None = Field(None, min_length=1, max_length=100, description="By one of these, in upper or lower case.")
    popularity: Range | None = None
    year: Range | None = None
    duration_ms: Range | None = None
    tempo: Range | None = None
    danceability: Range | None = None
    energy: Range | None = None
    loudness: Range | None = None
    speechiness: Range | None = None
    acousticness: Range | None = None
    instrumentalness: Range | None = None
    liveness: Range | None = None
    valence: Range | None = None


class Recommend(_Request):
    """Continue some tracks, a known playlist or a title; without any of them the answer is the most popular tracks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"tracks": ["spotify:track:2IO7yf562c1zLzpanal1DT"], "title": "Trap Nation", "k": 10},
                {"playlist_id": "7", "k": 20, "exclude": ["7hsLKGEnoiNShdIGL6ws1f"], "filters": {"year": {"min": 2010}}},
            ]
        }
    )

    tracks: list[Id] = Field(default_factory=list, max_length=MAX_TRACKS, description="Track ids in the order they were played.")
    playlist_id: Id | None = Field(None, description="A playlist the model was trained with; its tracks come before `tracks`.")
    title: Name | None = Field(None, description="The playlist's title; without it the title of the known playlist.")
    k: Count = 10
    exclude: list[Id] = Field(default_factory=list, max_length=MAX_EXCLUDED, description="Track ids that must not come back.")
    filters: Filters | None = None
    diversity: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, strict=True, description="0: the best tracks; 1: the most different ones."
    )
    explain: bool = Field(False, strict=True, description="Add the reasons for every track.")


class Similar(_Request):
    """The `k` nearest tracks of one track."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"track_id": "spotify:track:2IO7yf562c1zLzpanal1DT", "k": 10}]})

    track_id: Id
    k: Count = 10


class Rank(_Request):
    """Order the candidates by how well they continue the tracks."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tracks": ["2IO7yf562c1zLzpanal1DT"], "candidates": ["7hsLKGEnoiNShdIGL6ws1f"]}]}
    )

    tracks: list[Id] = Field(default_factory=list, max_length=MAX_TRACKS)
    title: Name | None = None
    candidates: list[Id] = Field(min_length=1, max_length=MAX_CANDIDATES)


class ModelVersion(_Answer):
    version: str


class Reason(_Answer):
    """Why a track is in the answer."""

    features: dict[str, float] = Field(description="The pair features that changed its score most, and by how much.")
    like: list[str] = Field(description="The seed tracks it is most similar to, nearest first.")


class Track(_Answer):
    """One known track."""

    track_id: str
    title: str | None
    artist: str | None


class RankedTrack(Track):
    score: float = Field(description="Higher is better; comparable within this answer only.")
    sources: dict[str, int] = Field(description="Which sources proposed it, at which rank from 1.")
    why: Reason | None = None


class Recommended(_Answer):
    tracks: list[RankedTrack]
    unknown_tracks: list[str] = Field(description="Ids in the request that the model does not know.")
    degraded: list[str] = Field(description="Stages that failed or did not answer in time; the answer was made without them.")
    model: ModelVersion
    request_id: str


class NearTrack(Track):
    score: float = Field(description="Cosine, from -1 to 1.")


class Nearest(_Answer):
    tracks: list[NearTrack]
    space: str = Field(description="The source whose vectors were compared: als, or content for a track that is in no playlist.")
    model: ModelVersion
    request_id: str


class Found(_Answer):
    tracks: list[Track]


class Ready(_Answer):
    ready: bool
    stages: dict[str, str] = Field(description="By stage: ok, or the error.")
    model: ModelVersion


class Alive(_Answer):
    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Problem details for HTTP APIs, RFC 9457; the media type is application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, Any]] | None = Field(None, description="The first ten; `detail` says how many there are.")
