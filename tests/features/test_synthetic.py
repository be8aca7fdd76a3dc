from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.dataset import Dataset
from features.domain import SegueError
from features.ingest import ingest
from features.synthetic import CATEGORIES, GENRES, MOODS, write_world

FILES = ("audio_features.parquet", "challenge.json", "mpd.zip", "truth.parquet")


@pytest.fixture(scope="module")
def dataset(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("dataset") / "d"
    ingest([world / "mpd.zip"], out, world / "audio_features.parquet", [world / "challenge.json"])
    return Dataset.open(out)


def questions(world: Path) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = json.loads((world / "challenge.json").read_text(encoding="utf-8"))["playlists"]
    return asked


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_world(tmp_path / name, playlists=60, tracks=500, seed=seed)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == list(FILES)
    for file in FILES:
        content = [(tmp_path / name / file).read_bytes() for name in "abc"]
        assert content[0] == content[1]
        assert content[0] != content[2]


def test_the_number_of_processes_changes_no_byte(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "w", playlists=1_200, tracks=1_000, seed=3, processes=2)
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == list(FILES)
    for file in FILES:
        assert (tmp_path / "w" / file).read_bytes() == (world / file).read_bytes()


def test_the_world_stays_the_same_from_version_to_version(tmp_path: Path) -> None:
    write_world(tmp_path / "w", playlists=60, tracks=500, seed=1)
    with zipfile.ZipFile(tmp_path / "w" / "mpd.zip") as archive:
        content = archive.read("data/mpd.slice.0-59.json")
    assert hashlib.sha256(content).hexdigest()[:16] == "fd2e7a6566cc55ad"
    assert hashlib.sha256((tmp_path / "w" / "challenge.json").read_bytes()).hexdigest()[:16] == "28454c9122e49e42"


def test_a_slice_does_not_depend_on_how_many_follow(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, playlists=1_000, tracks=1_000, seed=3)
    with zipfile.ZipFile(world / "mpd.zip") as long, zipfile.ZipFile(tmp_path / "mpd.zip") as short:
        assert long.namelist() == ["data/mpd.slice.0-999.json", "data/mpd.slice.1000-1199.json"]
        assert long.read("data/mpd.slice.0-999.json") == short.read("data/mpd.slice.0-999.json")


def test_every_category_hides_what_the_truth_holds(world: Path) -> None:
    truth = pl.read_parquet(world / "truth.parquet")
    assert truth.schema == {"pid": pl.Int64, "category": pl.Int64, "track_uri": pl.String, "artist_name": pl.String}
    assert truth["category"].unique().sort().to_list() == list(range(10))
    hidden = truth.group_by("pid").agg(pl.col("category").first(), pl.col("track_uri"))
    of_pid = {pid: (CATEGORIES[category], set(uris)) for pid, category, uris in hidden.iter_rows()}
    for asked in questions(world):
        shape, held_out = of_pid[asked["pid"]]
        places = [entry["pos"] for entry in asked["tracks"]]
        assert ("name" in asked) == shape.titled
        assert asked.get("name", "x") != ""
        assert len(places) == asked["num_samples"] <= shape.visible
        assert places == (sorted(places) if shape.at_random else list(range(len(places))))
        assert not held_out & {entry["track_uri"] for entry in asked["tracks"]}
        assert len(held_out) == asked["num_holdouts"] == asked["num_tracks"] - asked["num_samples"] >= 5


def test_some_random_seeds_are_not_the_first(world: Path) -> None:
    assert any([entry["pos"] for entry in asked["tracks"]] != list(range(asked["num_samples"])) for asked in questions(world))


def test_challenge_pids_are_new(world: Path) -> None:
    assert min(asked["pid"] for asked in questions(world)) == 1_200


def test_popularity_is_like_zipf(dataset: Dataset) -> None:
    counts = np.sort(dataset.interactions.track_counts)[::-1][3:500]
    slope = np.polyfit(np.log(np.arange(4, 501)), np.log(counts), 1)[0]
    assert -1.3 < slope < -0.4
    assert np.median(dataset.interactions.track_counts) < dataset.interactions.track_counts.mean() * 0.8


def test_lengths_are_like_those_of_the_million_playlists(dataset: Dataset) -> None:
    lengths = dataset.interactions.lengths()[:1_200]
    assert lengths.min() >= 5
    assert lengths.max() <= 250
    assert 35 < np.median(lengths) < 60


def test_neighbours_beat_popularity(world: Path, dataset: Dataset) -> None:
    """Recall@50 of the summed cosines to the seeds against that of the most held tracks."""
    truth = pl.read_parquet(world / "truth.parquet").filter(pl.col("category") >= 2)
    held = dataset.interactions.matrix
    scaled = held.multiply(1 / np.sqrt(np.maximum(dataset.interactions.track_counts, 1))).tocsr()
    similar = (scaled.T @ scaled).toarray()
    row = {pid: i for i, pid in enumerate(dataset.playlists["playlist_id"])}
    recalls = []
    for (pid,), hidden in truth.group_by("pid", maintain_order=True):
        seeds = dataset.interactions.tracks_of(row[str(pid)])
        relevant = dataset.vocabulary.index_of(hidden["track_uri"].to_list())
        scores = np.stack([similar[seeds].sum(0), dataset.interactions.track_counts.astype(float)])
        scores[:, seeds] = -1
        best = np.argsort(-scores, axis=1)[:, :50]
        recalls.append([np.isin(relevant, of_one).mean() for of_one in best])
    neighbours, popularity = np.mean(recalls, axis=0)
    assert neighbours > 1.5 * popularity


def test_artists_come_in_runs(dataset: Dataset) -> None:
    artists, random = dataset.catalog.artists, np.random.default_rng(0)
    lists = [artists[dataset.interactions.tracks_of(i)] for i in range(300)]
    runs = np.mean([np.mean(one[1:] == one[:-1]) for one in lists])
    mixed = np.mean([np.mean(one[1:] == one[:-1]) for one in map(random.permutation, lists)])
    assert runs > 2 * mixed


def test_titles_tell_of_genre_and_mood_and_some_are_empty(dataset: Dataset) -> None:
    titles = [title.casefold() for title in dataset.interactions.titles[:1_200]]
    telling = np.mean([any(word in title for word in (*GENRES, *MOODS)) for title in titles])
    assert 0.6 < telling < 0.95
    assert 0.01 < titles.count("") / len(titles) < 0.1
    assert any(not title.isascii() for title in titles)


def test_audio_features_agree_with_the_genre_and_cover_a_part(world: Path) -> None:
    table = pl.read_parquet(world / "audio_features.parquet")
    assert 0.5 < table.height / 1_000 < 0.8
    assert 0.1 < table["genre"].null_count() / table.height < 0.3
    within = table.drop_nulls("genre").select(pl.col("energy").std().over("genre").mean()).item()
    assert within < 0.6 * table.select(pl.col("energy").std()).item()


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    write_world(tmp_path, playlists=10, tracks=500, progress=lambda phase, done: told.append((phase, done)))
    assert told == [("writing playlists", 1.0)]


@pytest.mark.parametrize("existing", [False, True])
def test_a_world_is_there_whole_or_not_at_all(tmp_path: Path, existing: bool) -> None:
    def interrupted(phase: str, done: float) -> None:
        raise KeyboardInterrupt

    if existing:
        write_world(tmp_path / "w", playlists=10, tracks=500)
    before = [path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", playlists=20, tracks=500, seed=1, progress=interrupted)
    assert [path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()] == before
    write_world(tmp_path / "w", playlists=20, tracks=500, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("foreign", ["file", "folder"])
def test_what_is_no_world_is_not_overwritten(tmp_path: Path, foreign: str) -> None:
    folder = tmp_path / "mine"
    if foreign == "folder":
        folder.mkdir()
    precious = folder if foreign == "file" else folder / "diary.txt"
    precious.write_text("precious")
    with pytest.raises(SegueError, match="mine: expected a synthetic world to replace, or nothing, found something else"):
        write_world(folder, playlists=10, tracks=500)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(("playlists", "tracks"), [(0, 500), (1, 499)])
def test_a_world_too_small_is_refused(tmp_path: Path, playlists: int, tracks: int) -> None:
    with pytest.raises(SegueError, match=f"expected at least 1 playlist and 500 tracks, found {playlists} and {tracks}"):
        write_world(tmp_path / "w", playlists, tracks)
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_in_a_large_world_every_track_has_a_playlist_and_most_have_few(tmp_path: Path) -> None:
    write_world(tmp_path / "world", playlists=30_000, tracks=100_000)
    ingest([tmp_path / "world" / "mpd.zip"], tmp_path / "dataset")
    held = Dataset.open(tmp_path / "dataset").interactions
    assert held.num_tracks == 100_000
    assert held.lengths().min() >= 5
    assert 0.35 < (held.track_counts == 1).mean() < 0.6
    assert (held.track_counts <= 5).mean() > 0.7
    assert held.track_counts.max() < 0.1 * held.num_playlists
