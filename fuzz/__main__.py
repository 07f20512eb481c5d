"""`python -m fuzz TARGET [SECONDS]`: runs one target; its finds are kept in `fuzz/corpus/TARGET`.

A crash writes the input beside the corpus and ends with an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["postroad"]):
    from fuzz.targets import TARGETS

from fuzz.seeds import seeds


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz TARGET [SECONDS]; targets: {', '.join(TARGETS)}")
    name = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    corpus = Path(__file__).parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", "-max_len=65536", "-rss_limit_mb=2048", "-timeout=10",
        "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={corpus.parent / name}-crash-",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


main()
