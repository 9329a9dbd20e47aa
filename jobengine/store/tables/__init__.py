"""The tables and the statements on them: the same for each kind of database.

Everything here takes the connection that it works on; nothing begins or ends a transaction.
"""
