"""What coordinator and worker tell of themselves: log lines and traces. Neither ever holds a secret or a record."""
