"""Similar playlists vote."""
