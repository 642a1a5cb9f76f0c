"""What `up` makes: one network, two volumes, two containers, as one model that is created, compared and exported."""
