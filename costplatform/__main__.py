"""``python -m costplatform`` is the ``costplatform`` command."""

from costplatform.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
