"""Pictures for people: overlay, page, trend."""
