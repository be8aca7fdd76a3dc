"""From ids and words to queries, and from ranked tracks to rows with titles. Uses no network and no Ray."""
