"""The commands; each module imports its stage inside the function, so that listing them stays instant."""
