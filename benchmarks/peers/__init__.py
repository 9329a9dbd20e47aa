"""The peers: queues that one would pick instead, each at its durable setting.

A module a peer, all with the same names: `SETTING` says how the peer runs, `missing()`
what is not installed, `enqueue_rate(scale, folder)` and `work_rate(scale, folder)` give
jobs a second. Packages of the peers are imported by name inside functions, so that
`missing()` works without them.
"""
