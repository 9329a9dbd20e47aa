"""The write path: operations are taken in batches, each one transaction and one fsync.

`writer` is the thread; a `batch` runs `creates`, `claims` and `touches` on the connection of
`commits`. Nothing else writes, so nothing here waits for a lock that a call holds.
"""
