"""The database as one encrypted file: its key, its lock, its copies, and how it is checked.

No statement on a table is here, and nothing of it is known outside but through the seam, or by
the commands that work on files.
"""
