"""``python -m tests.malformed DIR`` writes each case and its command line into a folder."""

import json
import os
import sys
from pathlib import Path

from tests.malformed import CASES, GOOD, good_files


def main() -> None:
    """Write the folders, named by number."""
    top = Path(sys.argv[1]).resolve()
    for number, case in enumerate((*CASES, *GOOD)):
        folder = top / f"{number:03}"
        folder.mkdir(parents=True)
        os.chdir(folder)
        good_files()
        words = case.prepare()
        said = {"name": case.name, "command": ["d2prune", *words], "exit": case.code}
        Path("case.json").write_text(json.dumps({**said, "says": case.says}, indent=2) + "\n")


if __name__ == "__main__":
    main()
