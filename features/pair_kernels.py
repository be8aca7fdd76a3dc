"""Compiled loops of the pair features: each fills its columns for every candidate, one query after the other.

Input: plain arrays. `tracks[offsets[i]:offsets[i + 1]]` are the candidates of query `i`, `seeds[starts[i]:starts[i + 1]]`
its seeds. Output: written into `block` (num_candidates, columns of the feature), NaN where nothing can be said. A row
depends on its own query alone. Knows no source, no space and no name.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.catalog import UNKNOWN
from features.domain import Floats, Ints, Offsets
from features.jit import compiled

Words = npt.NDArray[np.uint64]

BLOCK = 64
"""Track vectors copied together before they are measured: memory answers many at once sooner than one after the other."""
LAST_SEEDS = 5
"""How many of the last seeds are looked at on their own: playlists drift."""
RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): how flat the top of a list is."""
STEPS = np.float32(1 << 19)
"""Cosines that are compared for being equal are told apart up to one part in so many."""
LEAST = np.float32(1e-9)
"""Lengths and sizes are divided by as at least so much."""
NAN = np.float32(np.nan)


@compiled
def of_sources(scores: Floats, ranks: Ints, places: Ints, offsets: Offsets, block: Floats) -> None:
    """Three columns a source: its own score, its rank, and the score as a share of the query's best. `places[j]` is the row of
    the j-th source in `scores` and `ranks`, negative where it did not answer."""
    for j in range(len(places)):
        if places[j] < 0:
            block[:, 3 * j : 3 * j + 3] = NAN
            continue
        said, rank = scores[places[j]], ranks[places[j]]
        for i in range(len(offsets) - 1):
            best = np.float32(-np.inf)
            for row in range(offsets[i], offsets[i + 1]):
                best = max(best, said[row]) if rank[row] > 0 else best
            size = max(abs(best), LEAST)
            for row in range(offsets[i], offsets[i + 1]):
                block[row, 3 * j] = said[row]
                block[row, 3 * j + 1] = rank[row] if rank[row] > 0 else NAN
                block[row, 3 * j + 2] = said[row] / size


@compiled
def of_union(ranks: Ints, offsets: Offsets, block: Floats) -> None:
    """By how many sources a candidate is proposed, at which rank at best, and its reciprocal ranks beside the query's best."""
    for i in range(len(offsets) - 1):
        best = 0.0
        for row in range(offsets[i], offsets[i + 1]):
            count, first, reciprocal = 0, np.iinfo(np.int32).max, 0.0
            for rank in ranks[:, row]:
                if rank > 0:
                    count += 1
                    first = min(first, rank)
                    reciprocal += 1 / (RANK_OFFSET + rank)
            best = max(best, reciprocal)
            block[row, 0], block[row, 1], block[row, 2] = count, first, reciprocal
        for row in range(offsets[i], offsets[i + 1]):
            block[row, 3] = block[row, 2] / max(best, LEAST)


@compiled
def of_space(vectors: Floats, searched: Floats, tracks: Ints, offsets: Offsets, seeds: Ints, starts: Offsets, block: Floats) -> None:
    """Every candidate beside the vector that was `searched` with, (q, dim) or none, and beside the seeds: the largest cosine,
    the mean, the mean of the last. A mean of cosines is one with the mean direction; only the largest needs every seed."""
    dim = vectors.shape[1]
    near = np.empty((BLOCK, dim), np.float32)
    for i in range(len(offsets) - 1):
        directions = _directions(vectors, seeds[starts[i] : starts[i + 1]])
        count = starts[i + 1] - starts[i]
        mean, last = _mean(directions[:count]), _mean(directions[max(count - LAST_SEEDS, 0) : count])
        query = searched[i] if len(searched) else np.full(dim, NAN)
        size = max(np.sqrt(_two(query, query, query)[0]), LEAST)
        for first in range(offsets[i], offsets[i + 1], BLOCK):
            of_block = tracks[first : min(first + BLOCK, offsets[i + 1])]
            _copy(vectors, of_block, near)
            for j in range(len(of_block)):
                vector, row = near[j], first + j
                square, inner = _two(vector, vector, query)
                with_mean, with_last = _two(vector, mean, last)
                length = max(np.sqrt(square), LEAST)
                block[row, 0] = inner
                block[row, 1] = inner / length / size
                block[row, 2] = _rounded(_largest(vector, directions) / length)
                block[row, 3] = with_mean / length
                block[row, 4] = with_last / length


@compiled
def _copy(vectors: Floats, tracks: Ints, near: Floats) -> None:
    for j in range(len(tracks)):
        vector, copy = vectors[tracks[j]], near[j]
        for t in range(len(vector)):
            copy[t] = vector[t]


@compiled
def _directions(vectors: Floats, seeds: Ints) -> Floats:
    """(num_seeds or one more, dim) of length 1; where their number is odd the last is there twice, for `_largest`."""
    directions = np.empty((len(seeds) + len(seeds) % 2, vectors.shape[1]), np.float32)
    for j in range(len(directions)):
        vector = vectors[seeds[min(j, len(seeds) - 1)]]
        directions[j] = vector / max(np.sqrt(_two(vector, vector, vector)[0]), LEAST)
    return directions


@compiled
def _mean(directions: Floats) -> Floats:
    """(dim,), NaN of none."""
    total = np.zeros(directions.shape[1], np.float32)
    for direction in directions:
        total += direction
    return total / np.float32(len(directions)) if len(directions) else np.full(len(total), NAN)


@compiled
def _largest(vector: Floats, directions: Floats) -> np.float32:
    """The largest inner product, NaN of none."""
    largest = np.float32(-np.inf) if len(directions) else NAN
    for j in range(0, len(directions), 2):
        with_one, with_other = _two(vector, directions[j], directions[j + 1])
        largest = max(largest, with_one, with_other)
    return largest


@compiled
def _two(vector: Floats, one: Floats, other: Floats) -> tuple[np.float32, np.float32]:
    """The inner products with `one` and with `other`; together they read `vector` once."""
    with_one, with_other = np.float32(0), np.float32(0)
    for t in range(len(vector)):
        with_one += vector[t] * one[t]
        with_other += vector[t] * other[t]
    return with_one, with_other


@compiled
def _rounded(cosine: np.float32) -> np.float32:
    """Two tracks of the same vector have a cosine of 1, whatever rounding makes of it: trees would learn to tell the roundings apart."""
    return np.round(cosine * STEPS) / STEPS


@compiled
def of_query(artists: Ints, counts: Floats, seeds: Ints, starts: Offsets, block: Floats) -> None:
    """(q, 6) how many seeds, the second column left out, by how many artists, the share of the most frequent, how popular
    and how differently so."""
    for i in range(len(starts) - 1):
        own = seeds[starts[i] : starts[i + 1]]
        block[i, 0] = len(own)
        block[i, 2:] = NAN
        if not len(own):
            continue
        different, most = _artists(np.sort(artists[own]))
        if different:
            block[i, 2], block[i, 3] = different, most / len(own)
        popularity = np.log1p(counts[own].astype(np.float64))
        block[i, 4], block[i, 5] = popularity.mean(), popularity.std()


@compiled
def _artists(ordered: Ints) -> tuple[int, int]:
    """How many known ones, and how often the most frequent of them is there."""
    different, run, most = 0, 0, 0
    for j in range(len(ordered)):
        run = run + 1 if j and ordered[j] == ordered[j - 1] else 1
        if ordered[j] != UNKNOWN:
            different += run == 1
            most = max(most, run)
    return different, most


@compiled
def of_track(
    counts: Floats, artist_counts: Floats, album_counts: Floats, tracks: Ints, offsets: Offsets, seed_popularity: Floats, block: Floats
) -> None:
    """How popular a track, its artist and its album are, its share of the artist's, and how much more popular than the seeds."""
    for i in range(len(offsets) - 1):
        for row in range(offsets[i], offsets[i + 1]):
            count, of_artist = counts[tracks[row]], artist_counts[tracks[row]]
            popularity = np.log1p(count)
            block[row, 0] = popularity
            block[row, 1] = np.log1p(of_artist)
            block[row, 2] = np.log1p(album_counts[tracks[row]])
            block[row, 3] = count / of_artist if of_artist > 0 else NAN
            block[row, 4] = popularity - seed_popularity[i]


@compiled
def of_overlap(artists: Ints, albums: Ints, tracks: Ints, offsets: Offsets, seeds: Ints, starts: Offsets, block: Floats) -> None:
    """How many seeds share the candidate's artist or album, and how far from the end the last such seed is."""
    for i in range(len(offsets) - 1):
        own = seeds[starts[i] : starts[i + 1]]
        of_seeds, on_seeds = artists[own], albums[own]
        for row in range(offsets[i], offsets[i + 1]):
            count, last = _shared(of_seeds, artists[tracks[row]])
            block[row, 0], block[row, 1], block[row, 2] = count, count / max(len(own), 1), last
            block[row, 3], block[row, 4] = _shared(on_seeds, albums[tracks[row]])


@compiled
def _shared(groups: Ints, group: int) -> tuple[int, np.float32]:
    """How many of `groups` are `group`, and the distance of the last of them from the end, NaN without one."""
    count, place = 0, -1
    for j in range(len(groups)):
        same = groups[j] == group
        count += same
        place = j if same else place
    return (count, np.float32(len(groups) - place)) if count and group != UNKNOWN else (0, NAN)


@compiled
def of_company(postings: Ints, bounds: Offsets, tracks: Ints, offsets: Offsets, seeds: Ints, starts: Offsets, block: Floats) -> None:
    """How often the candidate shares playlists with each seed: cosine of their playlist sets, over the seeds. Track `t` is in
    the playlists `postings[bounds[t]:bounds[t + 1]]`. Sets are bits: what two share is counted a word at a time."""
    for i in range(len(offsets) - 1):
        own = seeds[starts[i] : starts[i + 1]]
        if not len(own):
            block[offsets[i] : offsets[i + 1]] = NAN
            continue
        playlists, places, of_seeds = _sets(postings, bounds, own)
        lengths = np.sqrt(np.maximum(bounds[own + 1] - bounds[own], 1).astype(np.float32))
        of_track = np.zeros(len(of_seeds), np.uint64)
        shared = np.empty(len(own), np.uint64)  # playlists that hold both
        for row in range(offsets[i], offsets[i + 1]):
            start, stop = bounds[tracks[row]], bounds[tracks[row] + 1]
            for playlist in postings[start:stop]:
                _put(of_track, places[_slot(playlists, playlist)])
            shared[:] = 0
            for word in range(len(of_track)):
                if of_track[word]:
                    _add_common(shared, of_seeds[word], of_track[word])
                    of_track[word] = 0
            length = np.sqrt(np.float32(max(stop - start, 1)))
            largest, total, late = np.float32(0), np.float32(0), np.float32(0)
            some, both = 0, np.int64(0)
            for j in range(len(own)):
                cosine = np.float32(np.int32(shared[j])) / (length * lengths[j])
                largest = max(largest, cosine)
                total += cosine
                late += cosine if j >= len(own) - LAST_SEEDS else np.float32(0)
                some += 1 if shared[j] else 0
                both += np.int32(shared[j])
            block[row, 0] = largest
            block[row, 1] = total / len(own)
            block[row, 2] = late / min(len(own), LAST_SEEDS)
            block[row, 3] = some / len(own)
            block[row, 4] = both / max(stop - start, 1) / len(own)


@compiled
def _sets(postings: Ints, bounds: Offsets, seeds: Ints) -> tuple[Ints, Ints, Words]:
    """The playlists of the seeds as a table with open addressing, as large as the seeds need and not as all playlists do: who
    stands in a slot, -1 where nobody does; the place of its bit, 0 for nobody's; and each seed's bits, (words, num_seeds)."""
    size = 2
    while size < 2 * (bounds[seeds + 1] - bounds[seeds]).sum():
        size *= 2
    playlists, places = np.full(size, -1, np.int32), np.zeros(size, np.int32)
    last = 0
    for seed in seeds:
        for playlist in postings[bounds[seed] : bounds[seed + 1]]:
            slot = _slot(playlists, playlist)
            if playlists[slot] < 0:
                last += 1
                playlists[slot], places[slot] = playlist, last
    sets = np.zeros(((last >> 6) + 1, len(seeds)), np.uint64)
    for j in range(len(seeds)):
        for playlist in postings[bounds[seeds[j]] : bounds[seeds[j] + 1]]:
            _put(sets[:, j], places[_slot(playlists, playlist)])
    return playlists, places, sets


@compiled
def _put(words: Words, place: int) -> None:
    """Sets the bit at `place`."""
    words[place >> 6] |= np.uint64(1) << np.uint64(place & 63)


@compiled
def _add_common(counts: Words, words: Words, other: int) -> None:
    """Adds to each of `counts` the bits that its word and `other` share (the usual sum by halves, which becomes one instruction)."""
    for j in range(len(counts)):
        bits = words[j] & other
        bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
        bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
        bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        counts[j] += (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def _slot(playlists: Ints, playlist: int) -> int:
    """Where `playlist` stands, or the empty slot where it would."""
    slot = playlist & (len(playlists) - 1)
    while playlists[slot] != playlist and playlists[slot] >= 0:
        slot = (slot + 1) & (len(playlists) - 1)
    return slot
