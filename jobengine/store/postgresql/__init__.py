"""The database as a PostgreSQL that servers share: sealed contents, and the servers' link.

Needs the extra of that name. No statement of the write path is here.
"""
