"""The database's tables. Each module is imported by what reads its tables with `select()`."""
