"""The `jobengine` command. Signals, exit codes and the HTTP server are known here alone."""
