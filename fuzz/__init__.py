"""Coverage-guided fuzzing (atheris): `make fuzz` for minutes, `python -m fuzz TARGET` on demand."""
