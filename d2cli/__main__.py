"""``python -m d2cli`` is ``d2prune``."""

from d2cli.cli.main import main

if __name__ == "__main__":
    main()
