"""Benchmarks: `python -m benchmarks` runs them all, `--help` says the rest.

Machines differ and are noisy, so every figure is a ratio of two measurements that
were taken in turn within one run. Load comes from processes of its own, never from
threads of the server's process.
"""
