"""Pure decisions: where a webhook may go, how it is signed, when it is tried again."""
