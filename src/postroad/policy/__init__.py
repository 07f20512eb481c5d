"""Judgement of what comes in: evidence is gathered, then judged by a pure function."""
