"""Units of work on one SQLite database: group commit, pack sync beside it, notices after it."""
