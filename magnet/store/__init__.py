"""Sessions, turns, model calls and intakes, kept in SQLite (or PostgreSQL by URL)."""
