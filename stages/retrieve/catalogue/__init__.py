"""What the catalog says: same artist, same album, related artists, popularity."""
