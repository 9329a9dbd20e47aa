"""The encrypted store: every table and statement, and the two kinds of database they lie in.

Downwards: `opening` and `move` take a whole database; `writing` is the write path, and `reads`
and `browse` what is read beside it; `sqlcipher` and `postgresql` are the kinds of database,
behind the seam in `database`; `tables` and their statements are the same for both. SQL
lives here alone, and no rule of a job's life does beyond what a statement must test.
"""
