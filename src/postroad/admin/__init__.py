"""What an operator does: every administrative verb once, as a function that returns values."""
