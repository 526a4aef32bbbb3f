"""The command line, the top floor: nothing imports it."""
