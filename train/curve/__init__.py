"""The less-data curve: quality against the fraction of labelled photographs."""
