"""What a job, a queue, a service and time are, and the rules between them.

No I/O and no third-party import but msgspec: every rule here can be read,
tested and reasoned about alone. Nothing here knows HTTP or SQL.
"""
