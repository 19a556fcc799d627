"""What speaks to the outside for accounts: a mail server."""
