"""What people look at: overlay, page, trend."""
