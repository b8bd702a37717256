"""Train, measure, compare: a frozen configuration in, records out."""
