"""The service's configuration as frozen values: of the whole, of a backend, of a tenant."""

from expresslane.settings.backends import BackendKind, BackendSettings, SimulatedSettings
from expresslane.settings.service import Settings, TlsSettings
from expresslane.settings.tenants import TenantDefaults, TenantSettings
from expresslane.settings.types import MAX_CAP, MAX_REQUESTS_PER_MIN, MAX_TOKENS_PER_MIN, MAX_WEIGHT

__all__ = [
    "MAX_CAP",
    "MAX_REQUESTS_PER_MIN",
    "MAX_TOKENS_PER_MIN",
    "MAX_WEIGHT",
    "BackendKind",
    "BackendSettings",
    "Settings",
    "SimulatedSettings",
    "TenantDefaults",
    "TenantSettings",
    "TlsSettings",
]
