"""Fuzzing guided by coverage (atheris): `make fuzz` for minutes, `python -m fuzz TARGET` for hours."""
