"""What the tests share: a server process, a client, a clock to turn, and job makers."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
