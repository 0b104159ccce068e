"""Ways to tell an event, one file each; `perron.alerts.channels` says what they have in common."""
