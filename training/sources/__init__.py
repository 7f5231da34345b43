"""Public data sets with masks, from the folders in which they are published.

docs/model/datasets.md says where each comes from, under which licence, and how its folder looks.
"""
