"""The figures, in the order of the table."""

from benchmarks.figure import Figure
from benchmarks.figures import depth

ALL: list[Figure] = [*depth.FIGURES]
