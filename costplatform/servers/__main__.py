"""``python -m costplatform.servers run -- COMMAND`` runs a command beside throw-away servers."""

import os
import subprocess
import sys

from costplatform.servers import throwaway


def main(arguments: list[str]) -> int:
    """Run ``run -- COMMAND`` with throw-away servers in its environment; return its exit code."""
    if arguments[:2] != ["run", "--"] or len(arguments) == len(["run", "--"]):
        raise SystemExit("usage: python -m costplatform.servers run -- COMMAND…")
    with throwaway() as addresses:
        found = {"DATABASE_URL": addresses.database_url, "REDIS_URL": addresses.redis_url}
        kept = {name: value for name, value in os.environ.items() if name[:-5] not in found}
        return subprocess.run(arguments[2:], env=kept | found, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
