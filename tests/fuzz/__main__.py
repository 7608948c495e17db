"""
``python -m tests.fuzz --seconds N``: each target in turn, guided by coverage, for a share of N.

What was found interesting is kept in ``var/fuzz/TARGET`` for the next run. An input that fails ends
its target's run and is written to ``var/fuzz``: ``python -m tests.fuzz --target TARGET FILE`` runs
it again.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.seeds import SEEDS, WORDS

HERE: Final = Path("var/fuzz")
INPUT_BYTES_MAX: Final = 4_096
INPUT_SECONDS_MAX: Final = 10
MEMORY_MB_MAX: Final = 2_048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=1_800, help="for all targets together")
    parser.add_argument("--target", choices=sorted(SEEDS), help="only this one")
    parser.add_argument("inputs", nargs="*", help="run these files, and do not look for others")
    options = parser.parse_args()
    if options.target:
        fuzz(options.target, seconds=options.seconds, inputs=options.inputs)
    share = max(1, options.seconds // len(SEEDS))
    # A fuzzer ends its process: each has one of its own.
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(share), "--target"]
    failed = [name for name in SEEDS if subprocess.run([*command, name], check=False).returncode]
    sys.stdout.write(f"failed: {', '.join(failed) or 'none'}\n")
    return 1 if failed else 0


def fuzz(name: str, *, seconds: int, inputs: Sequence[str]) -> None:
    """Feed a target until the time is over or it fails; does not return."""
    import atheris
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")
    django.setup()
    with atheris.instrument_imports(include=["gateway", "spend.counting"]):
        from tests.fuzz.targets import TARGETS

    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}", "-print_final_stats=1",
        f"-artifact_prefix={HERE}/{name}-", "-verbosity=0", *_dictionary(name),
    ]  # fmt: skip
    atheris.Setup([*arguments, *(inputs or [str(_corpus(name))])], TARGETS[name])
    atheris.Fuzz()


def _corpus(name: str) -> Path:
    """Return the folder with what was interesting before, and the seeds."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    return folder


def _dictionary(name: str) -> list[str]:
    if not WORDS[name]:
        return []
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in WORDS[name])
    HERE.mkdir(parents=True, exist_ok=True)
    written = HERE / f"{name}.dict"
    written.write_text("".join(f'"{word}"\n' for word in words))
    return [f"-dict={written}"]


if __name__ == "__main__":
    sys.exit(main())
