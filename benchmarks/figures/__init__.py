"""The figures, in the order of the table."""

from benchmarks.figure import Figure
from benchmarks.figures import bulk, calls, depth, peers, servers, slow, statistics

_GROUPS = (calls, bulk, depth, statistics, slow, peers, servers)
ALL: list[Figure] = [figure for group in _GROUPS for figure in group.FIGURES]
