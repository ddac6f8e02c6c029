"""A batch on its way through the service: its tickets, its outbox, its summary."""
