"""Half an hour of traffic while servers die and return: `make soak`; SOAK_SECONDS says how long."""
