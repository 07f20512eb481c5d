"""One file per command of the `postroad` program. Each only renders what `admin` returns."""
