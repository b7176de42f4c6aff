-- What the lines about publishing start from.

-- Empties publishing and the ledger, and books contents by plain INSERTs: p_due of them lie in the past, in queues that
-- are active, p_blocked further back still, in a paused queue, and p_ahead in the future.
CREATE FUNCTION bench.to_publish(p_due int, p_blocked int, p_ahead int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole, slotkeeper.publication, slotkeeper.published,
             slotkeeper.attempt;
    PERFORM slotkeeper.set_queue_status('hot-1', 'tiktok', 'paused');
    INSERT INTO slotkeeper.booking (queue_id, granule, seat, scheduled_at, booked_at, content_id, user_id)
    SELECT q.queue_id, m.minute, 0, to_timestamp(m.minute * 60), now(), 'p-' || i, 'user-1'
    FROM generate_series(-(p_due + p_blocked), p_ahead - 1) AS i,
         LATERAL (SELECT extract(epoch FROM now())::bigint / 60 AS this) AS now,
         LATERAL (SELECT CASE WHEN i < -p_due THEN now.this + i - 10 * 1440
                              WHEN i < 0 THEN now.this - 10 + i / 2000
                              ELSE now.this + 60 + i / 2000 END AS minute) AS m,
         LATERAL (SELECT CASE WHEN i < -p_due THEN 'hot-1' ELSE 'spread-' || abs(i) % 2000 + 1 END AS name) AS n
    JOIN slotkeeper.queue AS q ON q.profile_id = n.name;
END
$$;
