"""The figures, in the order of the table."""

from benchmarks.figure import Figure
from benchmarks.figures import bulk, calls, depth, peers

ALL: list[Figure] = [*calls.FIGURES, *bulk.FIGURES, *depth.FIGURES, *peers.FIGURES]
