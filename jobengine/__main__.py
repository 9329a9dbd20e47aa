"""`python -m jobengine` is the `jobengine` command."""

from jobengine.cli.main import main

main()
