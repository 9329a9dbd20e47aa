"""The dashboard: pages for people, rendered here, that work without a script for reading.

It speaks to the engine alone, as the API does, and knows nothing of it. What a page shows is
a template's; what a script adds (static/app.js) is comfort.
"""
