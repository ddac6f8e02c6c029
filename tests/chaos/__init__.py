"""What the service promises, held against it from outside while everything around it fails."""
