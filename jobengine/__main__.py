"""`python -m jobengine` is the `jobengine` command."""

from jobengine.cli.entry import main

main()
