-- A queue is its name: what was published in it stays published when it is dropped and created again, and what came of an
-- attempt can be told whatever has become of its queue.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE FUNCTION pg_temp.said(r jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r ->> 'outcome', r ->> 'content_id', 'attempt ' || (r ->> 'attempt'), r ->> 'reason', r ->> 'state',
                     'released ' || (r ->> 'released'), 'unknown ' || (r ->> 'unknown'), 'as ' || (r ->> 'provider_id'), CASE WHEN (r ->> 'late')::boolean THEN 'late' END)
$$;
CREATE TEMP TABLE token (content_id text, token text);
CREATE FUNCTION pg_temp.claim(content text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb := slotkeeper.claim_content(content, 'w');
BEGIN
    IF r ? 'lease_token' THEN INSERT INTO token VALUES (content, r ->> 'lease_token'); END IF;
    RETURN pg_temp.said(r);
END $$;
CREATE FUNCTION pg_temp.t(content text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM token WHERE content_id = content ORDER BY ctid DESC LIMIT 1 $$;
CREATE VIEW pg_temp.status AS
    SELECT content_id, platform, state, attempt, scheduled_at, unscheduled_at, late, provider_id, error
    FROM slotkeeper.content_status WHERE profile_id = 'gone' ORDER BY content_id COLLATE "C";
CREATE FUNCTION pg_temp.queue() RETURNS text LANGUAGE sql AS $$
    SELECT slotkeeper.create_queue('gone', 'x', 'UTC', '{"daily": ["12:00"]}', '{"granule": "15 minutes"}') ->> 'outcome' $$;
SELECT slotkeeper.create_queue('gone', 'x', 'UTC', '{"daily": ["12:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_platform('x', '{"jitter": 0}') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('gone', 'x', c, '2026-01-15T12:00:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome
FROM unnest(ARRAY['published', 'claimed', 'begun', 'begun too', 'begun three', 'failed', 'retrying', 'waiting']) AS c;
SET slotkeeper.now = '2026-01-15T13:00:00+00:00';
SELECT pg_temp.claim(c) FROM unnest(ARRAY['published', 'claimed', 'begun', 'begun too', 'begun three', 'failed', 'retrying']) AS c;
SELECT c, slotkeeper.begin_publish(pg_temp.t(c)) ->> 'outcome' AS outcome FROM unnest(ARRAY['published', 'begun', 'begun too', 'begun three', 'failed']) AS c;
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('published'), 'p')), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('failed'), 'no', 400)), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('retrying'), 'not begun'));
SELECT queue_id AS before FROM slotkeeper.queue WHERE profile_id = 'gone' \gset

-- What had not begun is unscheduled, what had is unknown.
SELECT pg_temp.said(slotkeeper.drop_queue('gone', 'x', true));
SELECT * FROM pg_temp.status;
SELECT c, pg_temp.said(slotkeeper.begin_publish(pg_temp.t(c))) FROM unnest(ARRAY['published', 'claimed', 'begun', 'failed', 'retrying']) AS c;
-- The first confirmation of an attempt that began is true; a failure that is certain gives the seat back.
BEGIN;
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun'), 'b')), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('claimed'), 'never'));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun'), 'again'));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('begun too'), 'bad image', 400));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun too'), 'after all'));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('begun three'), 'who knows'));
SELECT * FROM pg_temp.status;
SELECT c, pg_temp.said(slotkeeper.claim_content(c, 'w2')) FROM unnest(ARRAY['published', 'begun', 'begun three', 'waiting']) AS c;
-- What was published is known for ever, also where its seat was given back and history is pruned.
SET LOCAL slotkeeper.now = '2026-06-16T15:00:00+00:00';
SELECT slotkeeper.prune_history('1 day', 1000000) ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.status;
ROLLBACK;
-- A person's word does too, as long as nobody else has said it.
BEGIN;
SELECT pg_temp.said(slotkeeper.resolve_unknown('begun', true, 'by hand')), pg_temp.said(slotkeeper.resolve_unknown('begun too', false, p_profile_id => 'gone', p_platform => 'X'));
SELECT pg_temp.said(slotkeeper.resolve_unknown('begun', false)), pg_temp.said(slotkeeper.resolve_unknown('begun too', true)), pg_temp.said(slotkeeper.resolve_unknown('begun three', true, p_profile_id => 'another'));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun'), 'b')), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun too'), 'after all'));
SELECT pg_temp.said(slotkeeper.resolve_unknown('waiting', true)), pg_temp.said(slotkeeper.resolve_unknown('claimed', false)), pg_temp.said(slotkeeper.resolve_unknown('published', false));
SELECT * FROM pg_temp.status;
ROLLBACK;
-- Nothing of it is due anywhere.
SET slotkeeper.now = '2026-01-16T13:00:00+00:00';
SELECT content_id FROM slotkeeper.claim_due_content('w2', 100);

-- Created again, with another granule: the same queue. Nothing that was published is handed out, nor what nobody knows of.
SELECT pg_temp.queue();
SELECT queue_id = :before AS same FROM slotkeeper.queue WHERE profile_id = 'gone';
SELECT count(*) AS dropped FROM slotkeeper.dropped_queue WHERE profile_id = 'gone';
SELECT content_id, granule = floor(extract(epoch FROM scheduled_at) / 900) AS in_granule, seat FROM slotkeeper.booking WHERE queue_id = :before AND released_at IS NULL ORDER BY content_id COLLATE "C";
SELECT * FROM pg_temp.status;
SELECT c, slotkeeper.schedule_content('gone', 'x', c, '2026-01-16T12:59:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome
FROM unnest(ARRAY['published', 'begun', 'begun too', 'failed', 'waiting']) AS c;
SET slotkeeper.now = '2026-01-16T15:00:00+00:00';
SELECT content_id, attempt FROM slotkeeper.claim_due_content('w2', 100) ORDER BY content_id COLLATE "C";
SELECT c, pg_temp.said(slotkeeper.claim_content(c, 'w2')) FROM unnest(ARRAY['published', 'begun', 'begun too']) AS c;
SELECT pg_temp.said(slotkeeper.resolve_unknown('begun too', false)), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun'), 'late')), pg_temp.said(slotkeeper.claim_content('begun', 'w2'));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('begun too'), 'late, too')), pg_temp.said(slotkeeper.claim_content('begun too', 'w2'));

-- Dropped and created in one transaction, undone, and done; names are told apart.
BEGIN;
SELECT slotkeeper.drop_queue('gone', 'x', true) ->> 'outcome' AS outcome;
SELECT pg_temp.queue();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT slotkeeper.drop_queue('gone', 'x', true) ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('gone', 'y', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT pg_temp.queue();
COMMIT;
SELECT platform, queue_id = :before AS same FROM slotkeeper.queue WHERE profile_id = 'gone' ORDER BY platform;
SELECT slotkeeper.schedule_content('gone', p, 'published', '2026-01-16T15:30:00Z') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS p;
SET slotkeeper.now = '2026-01-17T12:00:00+00:00';
SELECT pg_temp.said(slotkeeper.claim_content('published', 'w2', p_platform => p)) FROM unnest(ARRAY['x', 'y']) AS p;

-- Rows are told, if they can be: those that were only waiting, claimed, to be retried or failed are unscheduled.
CREATE SCHEMA gone;
CREATE TABLE gone.told (id text PRIMARY KEY, at timestamptz, st text DEFAULT 'queued');
SELECT slotkeeper.create_queue('gone', 'z', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('gone.told', '{"content_id": "id", "profile_id": {"value": "gone"}, "platform": {"value": "z"}, "at": "at", "occupies": "st = ''queued''",
    "states": {"scheduled": {"st": "queued"}, "claimed": {"st": "claimed"}, "publishing": {"st": "busy"}, "retrying": {"st": "retry"}, "failed": {"st": "failed"}, "unknown": {"st": "unknown"}, "published": {"st": "done"}, "unscheduled": {"st": "draft", "at": null}}}') ->> 'outcome' AS outcome;
INSERT INTO gone.told SELECT id, timestamptz '2026-01-17T12:00:00Z' + n * interval '1 minute' FROM unnest(ARRAY['r-waiting', 'r-claimed', 'r-retrying', 'r-failed', 'r-begun', 'r-unknown', 'r-published']) WITH ORDINALITY AS u (id, n);
SET slotkeeper.now = '2026-01-17T13:00:00+00:00';
SELECT pg_temp.claim(c) FROM unnest(ARRAY['r-claimed', 'r-retrying', 'r-failed', 'r-begun', 'r-unknown']) AS c;
SELECT slotkeeper.claim_content('r-published', 'w', p_platform => 'z') ->> 'lease_token' AS published \gset
SELECT slotkeeper.begin_publish(pg_temp.t(c)) ->> 'outcome' AS outcome FROM unnest(ARRAY['r-failed', 'r-begun', 'r-unknown']) AS c;
SELECT slotkeeper.begin_publish(:'published') ->> 'outcome' AS begun, slotkeeper.confirm_publish(:'published') ->> 'outcome' AS confirmed;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('r-retrying'), 'e')), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('r-failed'), 'e', 400)), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('r-unknown'), 'e'));
SELECT pg_temp.said(slotkeeper.drop_queue('gone', 'z', true));
SELECT t.id, t.st, t.at, s.state FROM gone.told AS t LEFT JOIN slotkeeper.content_status AS s ON s.content_id = t.id AND s.source = 'gone.told' ORDER BY t.id;
SELECT reason FROM slotkeeper.binding_health WHERE source = 'gone.told';
BEGIN;
SELECT slotkeeper.reconcile_table('gone.told') ->> 'told_count' AS told;
SELECT id, st FROM gone.told WHERE id = 'r-begun';
ROLLBACK;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('r-begun'), 'e', 400)), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('r-unknown')));
SELECT t.id, t.st, t.at, s.state FROM gone.told AS t LEFT JOIN slotkeeper.content_status AS s ON s.content_id = t.id AND s.source = 'gone.told' WHERE t.id IN ('r-begun', 'r-unknown') ORDER BY t.id;
SELECT slotkeeper.detach_table('gone.told') ->> 'outcome' AS outcome;
DROP SCHEMA gone CASCADE;

-- Rows that still ask for seats, and whose contents keep those that they had in a queue that was dropped, are told from rows that
-- cannot be booked.
CREATE SCHEMA gone;
CREATE TABLE gone.plain (id text PRIMARY KEY, at timestamptz);
SELECT slotkeeper.create_queue('gone', 'z', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('gone.plain', '{"content_id": "id", "profile_id": {"value": "gone"}, "platform": {"value": "z"}, "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO gone.plain VALUES ('p-begun', '2026-01-17 12:01Z'), ('p-published', '2026-01-17 12:02Z'), ('p-waiting', '2026-01-20 12:00Z');
SELECT slotkeeper.claim_content('p-begun', 'w') ->> 'lease_token' AS begun \gset
SELECT slotkeeper.claim_content('p-published', 'w') ->> 'lease_token' AS published \gset
SELECT slotkeeper.begin_publish(t) ->> 'outcome' AS outcome FROM unnest(ARRAY[:'begun', :'published']) AS t;
SELECT slotkeeper.confirm_publish(:'published') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.drop_queue('gone', 'z', true));
SELECT r ->> 'unbooked' AS unbooked, r ->> 'kept_count' AS kept, r ->> 'released' AS released FROM slotkeeper.reconcile_table('gone.plain') AS r;
SELECT content_id, state FROM slotkeeper.content_status WHERE source = 'gone.plain' AND state <> 'unscheduled' ORDER BY content_id;
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'gone.plain';
DELETE FROM gone.plain WHERE id = 'p-waiting';
SELECT r ->> 'already_booked' AS known, r ->> 'unbooked' AS unbooked, r ->> 'ready' AS ready FROM slotkeeper.check_table('gone.plain', '{"content_id": "id", "profile_id": {"value": "gone"}, "platform": {"value": "z"}, "at": "at"}') AS r;
SELECT slotkeeper.detach_table('gone.plain') ->> 'outcome' AS outcome;
DROP SCHEMA gone CASCADE;

-- A table is dropped, and its contents with it: nothing of it is tried again, whoever says what came of the last attempt.
SELECT slotkeeper.set_platform('y', '{"jitter": 0, "on_unknown": "retry"}') ->> 'outcome' AS outcome;
CREATE SCHEMA gone;
CREATE TABLE gone.post (id text PRIMARY KEY, platform text, at timestamptz);
SELECT slotkeeper.attach_table('gone.post', '{"content_id": "id", "profile_id": {"value": "gone"}, "platform": "platform", "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO gone.post SELECT 't' || n, CASE WHEN n = 4 THEN 'y' ELSE 'x' END, timestamptz '2026-01-17T12:00:00Z' + n * interval '1 hour' FROM generate_series(1, 5) AS n;
SET slotkeeper.now = '2026-01-18T12:00:00+00:00';
SELECT pg_temp.claim('t' || n) FROM generate_series(1, 5) AS n;
SELECT slotkeeper.begin_publish(pg_temp.t('t' || n)) ->> 'outcome' AS outcome FROM generate_series(1, 4) AS n;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('t1'), 'who knows'));
DROP TABLE gone.post;
SELECT content_id, state FROM slotkeeper.content_status WHERE source = 'gone.post' ORDER BY content_id;
SELECT pg_temp.said(slotkeeper.resolve_unknown('t1', false)), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('t2'), 'too many', 429));
SET slotkeeper.now = '2026-01-18T13:00:00+00:00';
SELECT content_id FROM slotkeeper.claim_due_content('w2', 100);
SELECT pg_temp.said(slotkeeper.resolve_unknown('t3', true)), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('t4'), 'late'));
SELECT content_id, state, unscheduled_at FROM slotkeeper.content_status WHERE source = 'gone.post' ORDER BY content_id;
SET slotkeeper.now = '2026-01-19T13:00:00+00:00';
SELECT content_id FROM slotkeeper.claim_due_content('w2', 100);
DROP SCHEMA gone;
DELETE FROM slotkeeper.binding;
SELECT count(slotkeeper.drop_queue('gone', p, true)) AS dropped FROM unnest(ARRAY['x', 'y']) AS p;
DELETE FROM slotkeeper.publication;
DELETE FROM slotkeeper.booking;
DELETE FROM slotkeeper.attempt;
DELETE FROM slotkeeper.published;
DELETE FROM slotkeeper.dropped_queue;
DELETE FROM slotkeeper.platform;
