"""`expresslane keys new`: makes an API key, shows it once, and says what to configure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from expresslane.auth.keys import new_key
from expresslane.cli.console import CommandError, Exit, report
from expresslane.variables import is_id

__all__ = ["make_key"]


def make_key(tenant: str, *, expires_days: int | None) -> Exit:
    """Print the key on standard output, and how the service comes to know it on standard error.

    Raises CommandError for a tenant that cannot be.
    """
    if not is_id(tenant):
        raise CommandError(f"{tenant[:60]!r} is no name of a tenant", "1 to 63 of a-z, 0-9 and -; example: acme")
    expires = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    key, record = new_key(expires)
    print(key)  # noqa: T201
    console = report()
    variable = f"EXPRESSLANE_TENANTS__{tenant.replace('-', '_').upper()}__KEYS"
    console.print(f"the key of {tenant}, above, is shown once; the service needs one of these two:", soft_wrap=True)
    console.print(f"  a line in its EXPRESSLANE_KEYS_FILE:    {tenant} {record}", soft_wrap=True)
    console.print(f"  an entry in its environment:            {variable}={record}", soft_wrap=True)
    console.print("callers send it as `authorization: Bearer KEY`; this command line takes EXPRESSLANE_API_KEY")
    return Exit.OK
