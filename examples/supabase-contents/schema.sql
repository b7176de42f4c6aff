-- The application's tables, as they were, and what its owner does once.

CREATE TABLE slots (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    profile_id uuid NOT NULL,
    platform   text NOT NULL,
    hour       int NOT NULL, -- in WIB
    minute     int NOT NULL,
    is_active  boolean NOT NULL DEFAULT true,
    UNIQUE (profile_id, platform, hour, minute)
);

CREATE TABLE contents (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    profile_id        uuid NOT NULL,
    platform          text NOT NULL,
    scheduled_slot_id uuid REFERENCES slots,
    scheduled_at      timestamptz,
    status            text NOT NULL DEFAULT 'available',
    user_id           uuid NOT NULL,
    retry_count       int NOT NULL DEFAULT 0,
    next_retry_at     timestamptz,
    removed_at        timestamptz
);

ALTER TABLE contents ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON contents TO example_authenticated
    USING (user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
GRANT SELECT, INSERT, UPDATE ON contents TO example_authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON contents, slots TO example_service;

SELECT slotkeeper.attach_queues('slots', '{
    "profile_id": "profile_id", "platform": "platform", "time_zone": {"value": "WIB"},
    "timetable": {"hour": "hour", "minute": "minute", "ref": "id"},
    "status": {"disabled": "NOT is_active"}
}');

SELECT slotkeeper.attach_table('contents', '{
    "content_id": "id", "profile_id": "profile_id", "platform": "platform", "user_id": "user_id", "at": "scheduled_at",
    "occupies": "status IN (''assigned'', ''success'', ''failed'')",
    "exempt": {"removed": "removed_at IS NOT NULL"},
    "published_when": "status = ''success''",
    "states": {
        "scheduled":   {"status": "assigned", "scheduled_slot_id": "$slot_ref"},
        "unscheduled": {"status": "available", "scheduled_at": null, "scheduled_slot_id": null},
        "retrying":    {"retry_count": "$attempt", "next_retry_at": "$next_attempt_at"},
        "published":   {"status": "success", "next_retry_at": null},
        "failed":      {"status": "failed", "next_retry_at": null}
    }
}');

SELECT slotkeeper.grant_access('example_authenticated', 'user');
SELECT slotkeeper.grant_access('example_service', 'user');
