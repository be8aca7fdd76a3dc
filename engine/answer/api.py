"""What the HTTP service reads and writes: the models behind its OpenAPI page.

Input: a JSON body. Output: a checked request, or an answer ready to be written down. An unknown key, a number that is
none and a list that is too long are refused here, so that nothing behind this door has to look again. Knows no model,
no framework and no Ray.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

LONGEST_ANSWER = 500
MOST_TRACKS, MOST_EXCLUDED, MOST_CANDIDATES = 1_000, 10_000, 1_000

Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(max_length=500)]
Count = Annotated[int, Field(ge=1, le=LONGEST_ANSWER, strict=True, description="How many tracks to answer with.")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Range(_Request):
    """From `min` to `max`, both included; a track whose value is not known is left out."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min to be at most max, found {self.min} and {self.max}")
        return self


class Filters(_Request):
    """What an answer's tracks must be; all that is given must hold. What is not known of a track does not hold."""

    explicit: bool | None = Field(None, strict=True, description="false: tracks known not to be explicit; true: explicit ones.")
    genre: list[Name] | None = Field(None, min_length=1, max_length=100, description="One of these, whatever the case.")
    artist: list[Name] | None = Field(None, min_length=1, max_length=100, description="By one of these, whatever the case.")
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
    """Some tracks, a known playlist or a title to continue; without any of them the popular answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"tracks": ["spotify:track:2IO7yf562c1zLzpanal1DT"], "title": "Trap Nation", "k": 10},
                {"playlist_id": "7", "k": 20, "exclude": ["7hsLKGEnoiNShdIGL6ws1f"], "filters": {"year": {"min": 2010}}},
            ]
        }
    )

    tracks: list[Id] = Field(default_factory=list, max_length=MOST_TRACKS, description="Track ids in the order they were played.")
    playlist_id: Id | None = Field(None, description="A playlist the model was trained with; its tracks come before `tracks`.")
    title: Name | None = Field(None, description="What the playlist is called; else the known playlist's own title.")
    k: Count = 10
    exclude: list[Id] = Field(default_factory=list, max_length=MOST_EXCLUDED, description="Track ids that must not come back.")
    filters: Filters | None = None
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="0: the best tracks; 1: as unlike each other as can be.")
    explain: bool = Field(False, description="Say of every track why it is there.")


class Similar(_Request):
    """One track, and how many like it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"track_id": "spotify:track:2IO7yf562c1zLzpanal1DT", "k": 10}]})

    track_id: Id
    k: Count = 10


class Rank(_Request):
    """Tracks so far, and candidates to put in order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tracks": ["2IO7yf562c1zLzpanal1DT"], "candidates": ["7hsLKGEnoiNShdIGL6ws1f"]}]}
    )

    tracks: list[Id] = Field(default_factory=list, max_length=MOST_TRACKS)
    title: Name | None = None
    candidates: list[Id] = Field(min_length=1, max_length=MOST_CANDIDATES)


class ModelVersion(_Answer):
    version: str


class Reason(_Answer):
    """What speaks for a track."""

    features: dict[str, float] = Field(description="The pair features that moved its score most, with by how much.")
    like: list[str] = Field(description="The seed tracks it is most like, nearest first.")


class Track(_Answer):
    """A track, known or answered."""

    track_id: str
    title: str | None
    artist: str | None


class RankedTrack(Track):
    score: float = Field(description="Higher is better; comparable within this answer only.")
    sources: dict[str, int] = Field(description="Which sources proposed it, at which rank from 1.")
    why: Reason | None = None


class Recommended(_Answer):
    tracks: list[RankedTrack]
    unknown_tracks: list[str] = Field(description="Ids that were asked with and that the model does not know.")
    degraded: list[str] = Field(description="Stages that did not answer in time; the answer was made without them.")
    model: ModelVersion
    request_id: str


class NearTrack(Track):
    score: float = Field(description="Cosine, from -1 to 1.")


class Nearest(_Answer):
    tracks: list[NearTrack]
    space: str = Field(description="Whose vectors were compared: als, or content for a track nobody has played.")
    model: ModelVersion
    request_id: str


class Found(_Answer):
    tracks: list[Track]


class Ready(_Answer):
    ready: bool
    stages: dict[str, str] = Field(description="ok, or what is wrong, by stage.")
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
    errors: list[dict[str, Any]] | None = None
