SELECT slotkeeper.publish_draft('bench.draft', nextval('bench.draft_turn')::text, 'bench.event',
    '{"title": "A title", "body": "A body of some length, as they have"}', 'event_id', '{"status": "published"}');
