"""Coverage-guided fuzzing with atheris: `make fuzz` for minutes, `python -m fuzz TARGET` for hours."""
