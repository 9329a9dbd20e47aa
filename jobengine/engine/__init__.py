"""The use cases: what a service may do with jobs, and what time does to them.

Rights and rules are applied here, above the store and below HTTP: nothing in here
knows a status code or writes SQL.
"""
