from hypothesis import HealthCheck, settings
DRAWN = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
