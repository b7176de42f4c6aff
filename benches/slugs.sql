-- What the lines about slugs and drafts need: tables of an application, and the publishing that one would write by hand.

CREATE TABLE bench.community (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    slug text NOT NULL UNIQUE
);

CREATE TABLE bench.event (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    body  text
);
CREATE TABLE bench.draft (
    id       bigint PRIMARY KEY,
    event_id bigint UNIQUE REFERENCES bench.event,
    status   text NOT NULL DEFAULT 'draft'
);
CREATE SEQUENCE bench.draft_turn;

-- Publishes once, in READ COMMITTED: lock, look, insert, link.
CREATE FUNCTION bench.publish(p_draft bigint, p_title text, p_body text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    draft bench.draft;
    event bigint;
BEGIN
    SELECT * INTO draft FROM bench.draft WHERE id = p_draft FOR UPDATE;
    IF draft.event_id IS NOT NULL THEN
        RETURN jsonb_build_object('outcome', 'already_published', 'target_id', draft.event_id);
    END IF;
    INSERT INTO bench.event (title, body) VALUES (p_title, p_body) RETURNING id INTO event;
    UPDATE bench.draft SET event_id = event, status = 'published' WHERE id = p_draft;
    RETURN jsonb_build_object('outcome', 'published', 'target_id', event);
END
$$;
