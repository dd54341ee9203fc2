"""What is known but not built yet: refused by name, never ignored (workspace WS-06)."""

NOT_YET = ("not supported yet", "leave it out for now")

LATER_TOP = frozenset(
    {
        "sql_traits", "broadcasts", "tests", "tracking_plans", "functions", "reverse_etl", "alerts",
    }
)  # fmt: skip

LATER_KEYS: dict[str, frozenset[str]] = {
    "Destination": frozenset({"kind", "id_sync", "enrich", "consent_categories"}),
}
"""By the name of the Struct that lacks them."""

ANY = "*"

LATER_VALUES: dict[tuple[str, ...], frozenset[str]] = {
    ("Workspace", "timezone"): frozenset({ANY}),
    ("Destination", "type"): frozenset(
        {
            "segment", "rudderstack", "s3", "postgres", "kafka", "slack", "discord", "teams",
            "amplitude", "amplitude_cohorts", "mixpanel", "ga4", "posthog", "customerio", "braze",
            "meta_capi", "hubspot", "klaviyo", "iterable", "intercom", "sendgrid", "twilio",
            "mailchimp", "salesforce", "tiktok", "pinterest", "attentive", "zendesk", "pipedrive",
            "google_sheets",
        }
    ),
}  # fmt: skip
"""By the Struct and the key whose value they would be."""
