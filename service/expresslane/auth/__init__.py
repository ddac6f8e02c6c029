"""Who is calling: API keys, client certificates, and what each tenant may do."""
