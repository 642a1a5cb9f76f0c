"""One pull: compare, decide, push, answer."""
