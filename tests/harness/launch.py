"""The `jobengine` command, with a clock that the tests turn: CLOCK_FILE COMMAND…"""

import sys
from pathlib import Path

from jobengine.cli.entry import main
from tests.harness.clock import FileClock

if __name__ == "__main__":
    main(sys.argv[2:], FileClock(Path(sys.argv[1])))
