"""What is done in the background, one duty a file, all of it in bounded chunks.

A duty makes real what every other statement already takes for granted, so none is
urgent: each chunk is one operation among those of the callers, and holds up no claim.
"""
