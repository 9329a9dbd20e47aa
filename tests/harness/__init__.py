"""What the tests share: a server process, a client, a clock to turn, and job makers."""
