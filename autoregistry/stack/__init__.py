"""The stack that `up` creates: one network, two volumes and two containers, described by one model."""
