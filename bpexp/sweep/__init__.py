"""The command line: from what one types to runs that are checked, trained and filed."""
