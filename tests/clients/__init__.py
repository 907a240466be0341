"""Other people's clients, unchanged, on a real service: each script runs where its client is."""
