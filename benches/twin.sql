-- assign_next_available_slot as one would write it by hand, correct under concurrency: a lock per queue until the end of
-- the transaction, then day by day and slot by slot: look, and insert where nobody is. The same columns and
-- indexes as slotkeeper's ledger, one index probe per slot, and a reply with the same keys. It knows neither
-- gaps and overlaps of daylight saving, nor capacities, nor holders that have not committed: they wait for each other.
CREATE FUNCTION bench.twin_assign(p_profile_id text, p_platform text, p_content_id text, p_user_id text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    queue bench.twin_queue;
    booked bench.twin;
    today date;
    slot time;
    slot_at timestamptz;
    slot_granule bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(p_profile_id || '/' || p_platform, 0));
    SELECT * INTO STRICT queue
    FROM bench.twin_queue AS q
    WHERE q.profile_id = p_profile_id AND q.platform = p_platform;
    SELECT * INTO booked
    FROM bench.twin AS b
    WHERE b.content_id = p_content_id AND b.source = '' AND b.queue_id = queue.queue_id AND b.released_at IS NULL;
    IF FOUND THEN
        RETURN jsonb_build_object('outcome', 'already_assigned', 'content_id', p_content_id,
                                  'booking_id', booked.booking_id, 'scheduled_at', booked.scheduled_at);
    END IF;
    today := (now() AT TIME ZONE queue.time_zone)::date;
    FOR day IN 0 .. 36500 LOOP
        FOREACH slot IN ARRAY queue.slots LOOP
            slot_at := (today + day + slot) AT TIME ZONE queue.time_zone;
            CONTINUE WHEN slot_at < now();
            slot_granule := extract(epoch FROM slot_at)::bigint / 60;
            CONTINUE WHEN EXISTS (
                SELECT FROM bench.twin AS b
                WHERE b.queue_id = queue.queue_id AND b.granule = slot_granule AND b.released_at IS NULL);
            INSERT INTO bench.twin (queue_id, granule, seat, source, content_id, user_id, scheduled_at, booked_at)
            VALUES (queue.queue_id, slot_granule, 0, '', p_content_id, p_user_id, slot_at, clock_timestamp())
            RETURNING * INTO booked;
            RETURN jsonb_build_object(
                'outcome', 'assigned', 'content_id', p_content_id, 'profile_id', p_profile_id, 'platform', p_platform,
                'user_id', p_user_id, 'slot_ref', booked.slot_ref, 'booking_id', booked.booking_id,
                'scheduled_at', slot_at, 'local_time', slot_at AT TIME ZONE queue.time_zone,
                'time_zone', queue.time_zone);
        END LOOP;
    END LOOP;
    RETURN jsonb_build_object('outcome', 'queue_full', 'content_id', p_content_id);
END
$$;
