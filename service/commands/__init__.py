"""What the commands do at a terminal: progress bars while it lasts, tables at the end."""
