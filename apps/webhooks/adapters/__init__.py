"""What speaks to receivers: resolving their names, and sending to checked addresses."""
