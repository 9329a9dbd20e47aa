"""The encrypted store: tables, statements, the engine seam and the one writer.

Every write is an operation that the writer runs in a batch and commits with one
fsync; reads go through connections that cannot write. SQL lives here alone, and
no rule of a job's life does beyond what a statement must test.
"""
