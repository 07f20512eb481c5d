"""Movement: the one door by which mail enters, and what takes it to other servers."""
